"""python -m data_prep.audit DIR: check every checksum and invariant of finished shards, and print statistics."""

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.accounting import LABELS, accounting_faults, rate_faults
from data_prep.audit_picture import draw_picture
from data_prep.audit_report import SplitStatistics, format_report
from data_prep.block_checks import BlockRules, find_faults, rules_of
from data_prep.config import PairKind, PairRecipe, PairsConfig
from data_prep.manifest import Manifest, ShardInfo, read_manifest
from data_prep.shard_format import END_OF_ARCHIVE, index_name
from data_prep.shard_reader import read_block, read_index


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 if everything holds, 1 if not, 2 for options that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.audit", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="a finished output_dir of data_prep")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that read shards (default 1)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw lengths and masked positions")
    options = parser.parse_args(arguments)
    if options.picture and (options.picture.suffix != ".png" or not options.picture.absolute().parent.is_dir()):
        print(f"audit: --picture {options.picture}: name a .png file in a folder that exists", file=sys.stderr)
        return 2
    if options.workers < 1:
        print(f"audit: --workers {options.workers}: at least 1", file=sys.stderr)
        return 2
    try:
        manifest = read_manifest(options.directory)
    except ValueError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1
    statistics, faults = audit_directory(options.directory, manifest, workers=options.workers)
    splits = {split: found.summary() for split, found in statistics.items()}
    if options.json:
        print(json.dumps({"ok": not faults, "faults": faults, "splits": splits}, indent=1))
    else:
        print(format_report(splits, manifest.statistics, faults, str(options.directory)))
    if options.picture:
        draw_picture(statistics).savefig(options.picture, dpi=120)
    return 1 if faults else 0


def audit_directory(
    directory: Path, manifest: Manifest, *, workers: int = 1
) -> tuple[dict[str, SplitStatistics], list[str]]:
    """Return the statistics per split and all faults, each naming its file and, where it has one, its block.

    Reads every shard twice, for the sha256 and block by block, in `workers` processes that hold one block each.
    """
    faults = [*_tokenizer_faults(directory, manifest), *_stray_faults(directory, manifest)]
    splits: dict[str, SplitStatistics] = {}
    pairs = pairs_config_of(manifest)
    rules = rules_of(manifest)
    audit = partial(_audit_shard, directory, rules, pairs.kind)
    total_bytes = sum(shard.bytes for shards in manifest.splits.values() for shard in shards)
    with ExitStack() as stack:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) if workers > 1 else None
        in_order = stack.enter_context(pool).map if pool else map
        bar = stack.enter_context(
            tqdm(total=total_bytes, unit="B", unit_scale=True, desc="audit", file=sys.stderr, disable=None)
        )
        for split, shards in manifest.splits.items():
            statistics = SplitStatistics(rules, pairs.kind)
            for shard, (of_shard, found) in zip(shards, in_order(audit, shards), strict=True):
                statistics.merge(of_shard)
                faults += [f"{shard.name}: {fault}" for fault in found]
                bar.update(shard.bytes)
            splits[split] = statistics
            wrong = _statistics_faults(pairs, manifest.statistics.get(split, {}), statistics.summary())
            faults += [f"{split}: {fault}" for fault in wrong]
    return splits, faults


def pairs_config_of(manifest: Manifest) -> PairsConfig:
    """Return how the pairs of a manifest were made. Older ones do not name a recipe: there was one."""
    values = manifest.config["pairs"]
    return PairsConfig(
        kind=PairKind(values["kind"]),
        recipe=PairRecipe(values.get("recipe", PairRecipe.lambert)),
        short_seq_prob=values["short_seq_prob"],
    )


def _audit_shard(
    directory: Path, rules: BlockRules, pairs: PairKind, shard: ShardInfo
) -> tuple[SplitStatistics, list[str]]:
    """Return the statistics of one shard's sound blocks, and its faults."""
    statistics = SplitStatistics(rules, pairs)
    statistics.shards = 1
    return statistics, list(_shard_faults(directory / shard.name, shard, rules, statistics))


def _shard_faults(tar: Path, shard: ShardInfo, rules: BlockRules, statistics: SplitStatistics) -> Iterator[str]:
    """Yield the faults of one shard and add its sound blocks to the statistics."""
    if not tar.is_file():
        yield "the tar is missing"
        return
    yield from _file_faults(tar, shard.bytes, shard.sha256)
    index_path = tar.with_name(index_name(tar.name))
    if index_path.is_file():
        yield from _file_faults(index_path, shard.index_bytes, shard.index_sha256)
    try:
        index = read_index(tar)
    except ValueError as error:
        yield str(error)
        return
    yield from _block_faults(tar, index, rules, statistics)
    end = int(index[-1]["offset"] + index[-1]["length"]) if len(index) else 0
    if end + len(END_OF_ARCHIVE) != shard.bytes:
        yield f"the index ends at byte {end} of {shard.bytes}; the last {len(END_OF_ARCHIVE)} close the tar"
    yield from (
        f"{count} {name} in sound blocks, the manifest says {getattr(shard, name)}"
        for name, count in statistics.counts.items()
        if count != getattr(shard, name)
    )


def _block_faults(tar: Path, index: NDArray[np.void], rules: BlockRules, statistics: SplitStatistics) -> Iterator[str]:
    position = 0
    keys: set[str] = set()
    with tar.open("rb") as file:
        for number, entry in enumerate(index):
            if entry["offset"] != position:
                yield f"block {number}: the index has it at byte {entry['offset']}, the one before ends at {position}"
            position = int(entry["offset"] + entry["length"])
            try:
                key, block = read_block(file, entry)
            except ValueError as error:
                yield f"block {number}: {error}"
                continue
            faults = find_faults(block, rules)
            if key in keys:
                faults.append(f"its key {key!r} is that of an earlier block: WebDataset would merge them")
            keys.add(key)
            yield from (f"block {number}: {fault}" for fault in faults)
            if not faults:
                statistics.add(block)


def _statistics_faults(pairs: PairsConfig, promised: dict[str, int], found: dict[str, Any]) -> Iterator[str]:
    for name in ("sequences", "instances", "tokens", "masked_tokens", *LABELS.values()):
        if name in promised and promised[name] != found.get(name):
            yield f"{found.get(name, 0)} {name} in sound blocks, the manifest's statistics say {promised[name]}"
            return
    if "tokens_taken" in promised:  # not in shards of older releases
        yield from accounting_faults(pairs, promised, found)
    yield from rate_faults(pairs, promised, found)


def _file_faults(path: Path, size: int, sha256: str) -> Iterator[str]:
    if path.stat().st_size != size:
        yield f"{path.name} has {path.stat().st_size} bytes, the manifest says {size}"
        return
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            yield f"{path.name} is not the file the manifest describes (another sha256)"


def _tokenizer_faults(directory: Path, manifest: Manifest) -> Iterator[str]:
    path = directory / manifest.tokenizer.directory / "tokenizer.json"
    if not path.is_file():
        yield f"{manifest.tokenizer.directory}/tokenizer.json: missing"
    elif hashlib.sha256(path.read_bytes()).hexdigest() != manifest.tokenizer.sha256:
        yield f"{manifest.tokenizer.directory}/tokenizer.json: not the file the manifest describes (another sha256)"


def _stray_faults(directory: Path, manifest: Manifest) -> Iterator[str]:
    tars = {shard.name for shards in manifest.splits.values() for shard in shards}
    expected = tars | {index_name(name) for name in tars}
    found = [*directory.glob("*.tar"), *directory.glob("*.index.npy")]
    strays = sorted(path.name for path in found if not path.name.startswith(".") and path.name not in expected)
    yield from (f"{name}: not in the manifest; move it away, no reader will use it" for name in strays)


if __name__ == "__main__":
    sys.exit(main())
