"""Instances -> masked instances, as in the BERT paper. numpy only: data_prep and the trainer share it.

The rule is `create_masked_lm_predictions` of google-research/bert/create_pretraining_data.py (Devlin et al. 2019,
section 3.1): per instance min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))) tokens are predicted;
of those 80 % become [MASK], 10 % a random token, 10 % stay. Two departures: a random token is never a special one, and
no array is walked token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # the rest stays as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedInstances:
    """Instances end to end, with what is to be predicted; positions ascend and count inside their instance."""

    input_ids: NDArray[np.integer[Any]]  # [tokens], the dtype of the input
    counts: NDArray[np.int64]  # [instances]
    positions: NDArray[np.int64]  # [masked]
    ids: NDArray[np.integer[Any]]  # [masked]: the tokens that were there


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What masking must know of a tokenizer: `special_ids` are never masked and never drawn."""

    size: int
    mask_id: int
    special_ids: Sequence[int]


def count_predictions(
    instance_lengths: NDArray[np.integer[Any]], masked_lm_prob: float, max_predictions_per_seq: int
) -> NDArray[np.int64]:
    """Return how many tokens may be predicted per instance, int64 [instances]; lengths count special tokens too."""
    wanted = np.rint(instance_lengths * masked_lm_prob).astype(np.int64)
    return np.clip(wanted, 1, max_predictions_per_seq)


def mask_instances(
    input_ids: NDArray[np.integer[Any]],
    instance_lengths: NDArray[np.integer[Any]],
    *,
    vocabulary: Vocabulary,
    masked_lm_prob: float,
    max_predictions_per_seq: int,
    rng: np.random.Generator,
    word_starts: NDArray[np.bool_] | None = None,
) -> MaskedInstances:
    """Return masks for instances that lie end to end in `input_ids` [tokens] with `instance_lengths` [instances].

    Each token is a unit of its own, or, with `word_starts` [tokens], each word: a word is masked whole or not at all,
    and one that exceeds what is left of the budget is passed over, so an instance may get fewer masks (even none).
    """
    assert vocabulary.size - 1 <= np.iinfo(input_ids.dtype).max, f"{input_ids.dtype} cannot hold {vocabulary.size} ids"
    is_special = np.isin(input_ids, vocabulary.special_ids)
    instances = np.repeat(np.arange(len(instance_lengths)), instance_lengths)
    first_token = np.cumsum(instance_lengths, dtype=np.int64) - instance_lengths
    begins_unit = ~is_special
    if word_starts is not None:
        # A unit also begins after a special token: truncation may have taken the first pieces of a word.
        after_special = np.roll(is_special, 1)
        after_special[first_token] = True
        begins_unit &= word_starts | after_special
    units = np.flatnonzero(begins_unit)
    stops = np.flatnonzero(np.concatenate((begins_unit[1:] | is_special[1:], [True])) & ~is_special) + 1
    sizes = stops - units
    budget = count_predictions(instance_lengths, masked_lm_prob, max_predictions_per_seq)
    chosen = choose_units(_shuffle_inside(instances[units], rng), instances[units], sizes, budget)
    at = _ranges(units[chosen], sizes[chosen])
    masked_input = input_ids.copy()
    masked_input[at] = _replace(input_ids[at], vocabulary, rng)
    return MaskedInstances(
        input_ids=masked_input,
        counts=np.bincount(instances[at], minlength=len(instance_lengths)),
        positions=at - first_token[instances[at]],
        ids=input_ids[at],
    )


def choose_units(
    order: NDArray[np.int64],
    unit_instances: NDArray[np.int64],
    unit_sizes: NDArray[np.int64],
    budget: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the chosen units, ascending: each instance takes units in the given order while its budget lasts.

    `order` [units] lists all units, instance by instance; a unit that no longer fits is passed over. The same as a
    loop over units, in a few rounds over all instances at once: a round takes every instance's units up to the first
    that does not fit, then forgets those too large for what is left.
    """
    left = budget.copy()
    chosen = [np.zeros(0, dtype=np.int64)]
    while len(order):
        instances, sizes = unit_instances[order], unit_sizes[order]
        spent = np.cumsum(sizes)
        is_first = np.concatenate(([True], instances[1:] != instances[:-1]))
        spent -= np.repeat((spent - sizes)[is_first], np.diff(np.append(np.flatnonzero(is_first), len(order))))
        fits = spent <= left[instances]
        chosen.append(order[fits])
        left -= np.bincount(instances[fits], sizes[fits], minlength=len(left)).astype(np.int64)
        order = order[~fits & (sizes <= left[instances])]
    return np.sort(np.concatenate(chosen))


def _shuffle_inside(unit_instances: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all units, int64 [units], instance by instance in ascending order, shuffled inside each instance.

    Sorts unique 64-bit keys (instance, random bits, unit): one sort, and no ties whose order a machine could choose.
    """
    unit_bits = max(len(unit_instances) - 1, 1).bit_length()
    instance_bits = int(unit_instances[-1] if len(unit_instances) else 1).bit_length()
    random_bits = 64 - unit_bits - instance_bits
    assert random_bits >= 20, f"{len(unit_instances)} units at once leave only {random_bits} random bits: mask fewer"
    keys = rng.integers(1 << random_bits, size=len(unit_instances), dtype=np.uint64)
    keys |= unit_instances.astype(np.uint64) << np.uint64(random_bits)
    keys = keys << np.uint64(unit_bits) | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64((1 << unit_bits) - 1)).astype(np.int64)


def _replace(
    ids: NDArray[np.integer[Any]], vocabulary: Vocabulary, rng: np.random.Generator
) -> NDArray[np.integer[Any]]:
    """Return what stands at the masked positions: [MASK], a random ordinary token, or the token itself."""
    ordinary = np.delete(np.arange(vocabulary.size, dtype=ids.dtype), list(vocabulary.special_ids))
    draw = rng.random(len(ids))
    replaced = np.where(draw < MASK_SHARE, np.array(vocabulary.mask_id, dtype=ids.dtype), ids)
    is_random = (draw >= MASK_SHARE) & (draw < MASK_SHARE + RANDOM_SHARE)
    replaced[is_random] = ordinary[rng.integers(len(ordinary), size=int(is_random.sum()))]
    return replaced


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for every range, end to end."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
