"""Masks for the sequences of shards that hold none (masking.kind=dynamic), drawn as they are read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import Manifest
from data_prep.masking import MaskingRules, mask_block, vocabulary_of
from data_prep.shard_format import Block


def dynamic_masking(manifest: Manifest) -> MaskingRules | None:
    """Return the rules by which the masks of these shards are to be drawn; None where the shards hold masks."""
    masking = manifest.config["masking"]
    if masking["kind"] != "dynamic":
        return None
    return MaskingRules(
        vocabulary=vocabulary_of(manifest.tokenizer),
        masked_lm_prob=masking["masked_lm_prob"],
        max_predictions_per_seq=masking["max_predictions_per_seq"],
        whole_word=masking["whole_word"],
        max_ngram=masking["max_ngram"],
    )


class Place(NamedTuple):
    """A sequence of the shards, and the occasion to draw its masks."""

    seed: int  # 128 bits, of an epoch or of the evaluations
    shard: int
    block: int
    row: int


def draw_masks(block: Block, rules: MaskingRules, places: Sequence[Place]) -> Block:
    """Return `block` with masks, as a block of static shards has them; `places` are those of its sequences.

    The masks of a sequence depend on its own place only, so that blocks may be cut and put together at will. Raises
    ValueError when the block has masks already, or lacks the word starts that whole words need.
    """
    if block.masked_lm_ids is not None:
        raise ValueError("a block holds masks, but its manifest says masking.kind=dynamic: prepare the shards again")
    if rules.whole_word and block.word_starts is None:
        raise ValueError("a block has no word_starts, which masking.whole_word needs: prepare the shards again")
    first_instance = np.cumsum(block.sequence_instances, dtype=np.int64) - block.sequence_instances
    num_tokens = np.add.reduceat(block.instance_lengths, first_instance, dtype=np.int64)
    return mask_block(block, rules, _random_words(places, num_tokens.tolist()))


def _random_words(places: Sequence[Place], num_tokens: Sequence[int]) -> NDArray[np.uint64]:
    """Return two words for each token of each sequence, uint64 [tokens, 2].

    Philox is a counter that is hashed with a key (Salmon et al. 2011): the seed is the key, the place the upper part of
    the counter. Setting a counter costs 3 microseconds, a generator of its own for each sequence would cost 30.
    """
    generators = {seed: np.random.Philox(key=seed) for seed in {place.seed for place in places}}
    words = []
    for (seed, *place), tokens in zip(places, num_tokens, strict=True):
        state = generators[seed].state
        state["state"]["counter"] = np.array([0, *place], dtype=np.uint64)
        state["buffer_pos"] = 4  # nothing is left of what was drawn before
        generators[seed].state = state
        words.append(generators[seed].random_raw((tokens, 2)))
    return np.concatenate(words)
