"""Held-out sentences with one word hidden, and what an exported model thinks stood there."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_prep.manifest import HELD_OUT, read_manifest
from data_prep.shard_format import Block, decode_block, decode_index, index_name

MIN_LETTERS = 4
CONTEXT_TOKENS = 24


class HiddenWord(NamedTuple):
    """Segment A of an instance, `ids` [tokens], and the place of the one token to hide."""

    ids: list[int]
    position: int


def first_held_out_block(shards_dir: Path) -> Block:
    """Return the first block of the held-out split."""
    shard = read_manifest(shards_dir).splits[HELD_OUT][0]
    place = decode_index((shards_dir / index_name(shard.name)).read_bytes())[0]
    with (shards_dir / shard.name).open("rb") as file:
        file.seek(int(place["offset"]))
        return decode_block(file.read(int(place["length"])))


def hidden_words(block: Block, tokens: list[str]) -> Iterator[HiddenWord]:
    """Yield, per instance, segment A with its original tokens and the first masked one that is a whole word."""
    assert block.masked_lm_counts is not None
    assert block.masked_lm_positions is not None
    assert block.masked_lm_ids is not None
    starts = np.cumsum(block.instance_lengths.astype(np.int64)) - block.instance_lengths
    masks = np.cumsum(block.masked_lm_counts.astype(np.int64)) - block.masked_lm_counts
    for instance in range(block.num_instances):
        ids = block.input_ids[starts[instance] :][: block.segment_a_lengths[instance]].astype(np.int64)
        own = slice(masks[instance], masks[instance] + block.masked_lm_counts[instance])
        positions = block.masked_lm_positions[own].astype(np.int64)
        inside = positions < len(ids)
        ids[positions[inside]] = block.masked_lm_ids[own][inside]
        for position in positions[inside].tolist():
            word = tokens[ids[position]]
            continues = tokens[ids[position + 1]].startswith("##")
            if word.isalpha() and len(word) >= MIN_LETTERS and not continues:
                yield HiddenWord(ids.tolist(), position)
                break


def show_predictions(model_dir: Path, shards_dir: Path, *, count: int) -> None:
    """Print `count` sentences and the model's three best guesses for each hidden word."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    model = transformers.AutoModelForMaskedLM.from_pretrained(model_dir).eval()
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    for number, hidden in enumerate(hidden_words(first_held_out_block(shards_dir), tokens)):
        if number == count:
            return
        print(f"\n  {_excerpt(tokenizer, hidden)}")
        guesses = _guess(model, tokenizer, hidden)
        print("    guesses: " + ", ".join(f"{word} {share:.0%}" for word, share in guesses))
        print(f"    it was:  {tokens[hidden.ids[hidden.position]]}")


def _guess(model: Any, tokenizer: Any, hidden: HiddenWord) -> list[tuple[str, float]]:
    ids = torch.tensor([hidden.ids])
    ids[0, hidden.position] = tokenizer.mask_token_id
    with torch.no_grad():
        shares, best = model(input_ids=ids).logits[0, hidden.position].softmax(-1).topk(3)
    return list(zip(tokenizer.convert_ids_to_tokens(best.tolist()), shares.tolist(), strict=True))


def _excerpt(tokenizer: Any, hidden: HiddenWord) -> str:
    """Return the words around the hidden one, as text."""
    low = max(1, hidden.position - CONTEXT_TOKENS // 2)
    high = min(len(hidden.ids) - 1, low + CONTEXT_TOKENS)
    before = tokenizer.decode(hidden.ids[low : hidden.position])
    after = tokenizer.decode(hidden.ids[hidden.position + 1 : high])
    return f"{before} [MASK] {after}".strip()


if __name__ == "__main__":
    show_predictions(Path(sys.argv[1]), Path(sys.argv[2]), count=5)
