"""python -m data_prep.show DIR: print instances as a human reads them, with what is masked and why it is a pair."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tokenizers import Tokenizer

from data_prep.config import PairKind, TokenizerKind
from data_prep.instance_text import render_instance
from data_prep.manifest import HELD_OUT, TRAIN, Manifest, ShardInfo, read_manifest
from data_prep.shard_format import Block
from data_prep.shard_reader import read_block, read_index
from data_prep.token_text import byte_token_units, unigram_units, word_piece_units
from data_prep.tokenizer import kind_of

UNITS = {
    TokenizerKind.wordpiece: word_piece_units,
    TokenizerKind.byte_bpe: byte_token_units,
    TokenizerKind.unigram: unigram_units,
}
LEGEND = "text: seen{wanted} = a masked token: what the model sees, and in braces what it must predict\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for an argument that names nothing."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.show", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="a finished output_dir of data_prep")
    parser.add_argument("--instances", type=int, default=3, metavar="N", help="how many to print (default: 3)")
    parser.add_argument("--at", metavar="SHARD:BLOCK:ROW", help="where to begin, as audit and error messages name it")
    parser.add_argument("--split", choices=[TRAIN, HELD_OUT], help=f"where to begin without --at (default: {TRAIN})")
    options = parser.parse_args(arguments)
    try:
        manifest = read_manifest(options.directory)
        if options.instances < 1:
            raise ValueError(f"--instances {options.instances}: at least 1")
        if options.at and options.split:
            raise ValueError("--at names a shard, which has its split already: leave --split out")
        start = parse_place(options.at) if options.at else (_first_shard(manifest, options.split or TRAIN), 0, 0)
        tokenizer = _read_tokenizer(options.directory / manifest.tokenizer.directory / "tokenizer.json")
        texts = list(islice(_instances_from(options.directory, manifest, tokenizer, start), options.instances))
    except (ValueError, OSError) as error:
        print(f"show: {error}", file=sys.stderr)
        return 2
    print("\n".join([LEGEND, *texts]))
    return 0


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot open or parse
        raise ValueError(f"{path} cannot be read ({error}); run the same `python -m data_prep` again") from error


def parse_place(text: str) -> tuple[str, int, int]:
    """Return the shard's file name, the block and the row of `SHARD:BLOCK:ROW`. Raises ValueError."""
    shard, *numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"--at {text!r}: SHARD:BLOCK:ROW is wanted, such as train-000-00000-000:3:17")
    return shard.removesuffix(".tar") + ".tar", int(numbers[0]), int(numbers[1])


def _first_shard(manifest: Manifest, split: str) -> str:
    shards = manifest.splits.get(split)
    if not shards:
        raise ValueError(f"--split {split}: the manifest has no such shards, only {', '.join(manifest.splits)}")
    return shards[0].name


def _instances_from(
    directory: Path, manifest: Manifest, tokenizer: Tokenizer, start: tuple[str, int, int]
) -> Iterator[str]:
    """Yield the instances as text, from a place to the end of its split."""
    name, first_block, first_row = start
    kind = PairKind(manifest.config["pairs"]["kind"])
    for shard in _shards_from(manifest, name):
        index = read_index(directory / shard.name)
        _require_inside(first_block, len(index), "block", shard.name)
        with (directory / shard.name).open("rb") as file:
            for number in range(first_block, len(index)):
                block = _read_named_block(file, index[number], f"{shard.name} block {number}")
                _require_inside(first_row, block.num_sequences, "row", f"{shard.name} block {number}")
                for row in range(first_row, block.num_sequences):
                    place = f"{shard.name.removesuffix('.tar')}:{number}:{row}"
                    yield from _row_texts(block.take(np.array([row])), place, tokenizer, kind)
                first_row = 0
        first_block = 0


def _require_inside(number: int, count: int, kind: str, where: str) -> None:
    if number >= count:
        raise ValueError(f"{where} has no {kind} {number}: it has {count}, 0 to {count - 1}")


def _read_named_block(file: BinaryIO, entry: np.void, name: str) -> Block:
    try:
        return read_block(file, entry)[1]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _shards_from(manifest: Manifest, name: str) -> list[ShardInfo]:
    for shards in manifest.splits.values():
        names = [shard.name for shard in shards]
        if name in names:
            return shards[names.index(name) :]
    raise ValueError(f"--at: the manifest lists no shard {name!r}; shards are named like train-000-00000-000.tar")


def _row_texts(sequence: Block, place: str, tokenizer: Tokenizer, kind: PairKind) -> Iterator[str]:
    units_of = UNITS[kind_of(tokenizer)]
    for instance in range(sequence.num_instances):
        number = f", instance {instance + 1} of {sequence.num_instances}" if sequence.num_instances > 1 else ""
        yield f"{place}{number}: {render_instance(sequence, instance, tokenizer.id_to_token, kind, units_of)}\n"


if __name__ == "__main__":
    sys.exit(main())
