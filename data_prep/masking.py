"""Instances -> masked instances, as in the BERT paper. numpy only: data_prep and the trainer share it.

The rule is `create_masked_lm_predictions` of google-research/bert/create_pretraining_data.py (Devlin et al. 2019,
section 3.1): per instance min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))) tokens are predicted;
of those 80 % become [MASK], 10 % a random token, 10 % stay. Two departures: a random token is never a special one, and
no array is walked token by token. N-grams are those of ALBERT (Lan et al. 2019, section 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import TokenizerInfo
from data_prep.shard_format import Block

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # the rest stays as it is
HALF = 32
"""Bits: each random word of 64 serves two draws, one from its upper half and one from its lower."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingRules:
    """How much is masked, and in which units: tokens or whole words, or runs of up to `max_ngram` of them."""

    vocabulary: Vocabulary
    masked_lm_prob: float
    max_predictions_per_seq: int
    whole_word: bool
    max_ngram: int


def vocabulary_of(tokenizer: TokenizerInfo) -> Vocabulary:
    """Return what masking needs of a tokenizer. [UNK] counts as special: nothing is learnt from predicting it."""
    special_ids = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id}
    return Vocabulary(
        size=tokenizer.vocab_size,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(sorted(special_id for special_id in special_ids if special_id is not None)),
    )


def count_predictions(
    instance_lengths: NDArray[np.integer[Any]], masked_lm_prob: float, max_predictions_per_seq: int
) -> NDArray[np.int64]:
    """Return how many tokens may be predicted per instance, int64 [instances]; lengths count special tokens too."""
    wanted = np.rint(instance_lengths * masked_lm_prob).astype(np.int64)
    return np.clip(wanted, 1, max_predictions_per_seq)


def mask_block(block: Block, rules: MaskingRules, random_words: NDArray[np.uint64]) -> Block:
    """Return `block`, which has no masks yet, with those of `mask_instances`; word starts have then done their work."""
    masked = mask_instances(
        block.input_ids, block.instance_lengths, rules, random_words=random_words, word_starts=block.word_starts
    )
    return replace(
        block,
        input_ids=masked.input_ids,
        masked_lm_counts=masked.counts,
        masked_lm_positions=masked.positions,
        masked_lm_ids=masked.ids,
        word_starts=None,
    )


def mask_instances(
    input_ids: NDArray[np.integer[Any]],
    instance_lengths: NDArray[np.integer[Any]],
    rules: MaskingRules,
    *,
    random_words: NDArray[np.uint64],
    word_starts: NDArray[np.bool_] | None,
) -> MaskedInstances:
    """Return masks for instances that lie end to end in `input_ids` [tokens] with `instance_lengths` [instances].

    `random_words`, uint64 [tokens, 2], are raw words of a bit generator, two per token, and all that is random here:
    an instance with the same words gets the same masks, whatever lies beside it. `word_starts` [tokens] is read for
    whole words only. A unit is masked whole or not at all, and one that exceeds what is left of the budget is passed
    over, so an instance may get fewer masks (even none).
    """
    size, dtype = rules.vocabulary.size, input_ids.dtype
    assert size - 1 <= np.iinfo(dtype).max, f"{dtype} cannot hold {size} ids"
    instances = np.repeat(np.arange(len(instance_lengths)), instance_lengths)
    first_token = np.cumsum(instance_lengths, dtype=np.int64) - instance_lengths
    is_special = np.isin(input_ids, rules.vocabulary.special_ids)
    units, sizes = _find_units(is_special, first_token, rules, random_words[:, 0], word_starts)
    budget = count_predictions(instance_lengths, rules.masked_lm_prob, rules.max_predictions_per_seq)
    order = _shuffle_inside(instances[units], random_words[units, 0])
    chosen = choose_units(order, instances[units], sizes, budget)
    at = _ranges(units[chosen], sizes[chosen])
    masked_input = input_ids.copy()
    masked_input[at] = _replace(input_ids[at], rules.vocabulary, random_words[at, 1])
    return MaskedInstances(
        input_ids=masked_input,
        counts=np.bincount(instances[at], minlength=len(instance_lengths)),
        positions=at - first_token[instances[at]],
        ids=input_ids[at],
    )


def _find_units(
    is_special: NDArray[np.bool_],
    first_token: NDArray[np.int64],
    rules: MaskingRules,
    random_words: NDArray[np.uint64],
    word_starts: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first token and the number of tokens of every unit, int64 [units], in order.

    All input but `first_token` [instances] and the rules is per token. No unit holds a special token.
    """
    begins_stretch = np.roll(is_special, 1)
    begins_stretch[first_token] = True
    begins = ~is_special
    if rules.whole_word:
        assert word_starts is not None, "whole words need their starts"
        # A word also begins with a stretch: truncation may have taken its first pieces.
        begins &= word_starts | begins_stretch
    if rules.max_ngram > 1:
        units = np.flatnonzero(begins)
        runs = join_units(begins_stretch[units], random_words[units], rules.max_ngram)
        begins = np.zeros_like(is_special)
        begins[units[runs]] = True
    starts = np.flatnonzero(begins)
    stops = np.flatnonzero(np.append(begins[1:] | is_special[1:], True) & ~is_special) + 1
    return starts, stops - starts


def join_units(
    begins_stretch: NDArray[np.bool_], random_words: NDArray[np.uint64], max_ngram: int
) -> NDArray[np.int64]:
    """Return which of the units [units] begin a run, int64 [runs], ascending; a run reaches to the next one.

    Runs have 1 to `max_ngram` units, n with probability proportional to 1 / n; one that would leave its stretch ends
    with it. The k-th run of a stretch draws its length from the lower bits of the stretch's k-th word, so that sums of
    lengths say where runs begin.
    """
    reach = np.cumsum(1 / np.arange(1, max_ngram + 1))
    limits = (reach[:-1] / reach[-1] * 2**HALF).astype(np.uint64)
    lengths = 1 + np.searchsorted(limits, _lower(random_words), side="right")
    stretches = np.flatnonzero(begins_stretch)
    sizes = np.diff(stretches, append=len(begins_stretch))
    offsets = _sums_inside(lengths, sizes) - lengths
    return (np.repeat(stretches, sizes) + offsets)[offsets < np.repeat(sizes, sizes)]


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
        is_first = np.append(True, instances[1:] != instances[:-1])
        spent = _sums_inside(sizes, np.diff(np.flatnonzero(is_first), append=len(order)))
        fits = spent <= left[instances]
        chosen.append(order[fits])
        left -= np.bincount(instances[fits], sizes[fits], minlength=len(left)).astype(np.int64)
        order = order[~fits & (sizes <= left[instances])]
    return np.sort(np.concatenate(chosen))


def _sums_inside(values: NDArray[np.int64], group_sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the running sums of `values`, int64 [values], that begin anew with each of the groups laid end to end."""
    sums = np.cumsum(values)
    firsts = np.cumsum(group_sizes) - group_sizes
    return sums - np.repeat(sums[firsts] - values[firsts], group_sizes)


def _shuffle_inside(unit_instances: NDArray[np.int64], random_words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return all units, int64 [units], instance by instance in ascending order, shuffled inside each instance.

    By the upper bits of the units' words; the sort is stable, so equal bits leave the order to no machine.
    """
    keys = unit_instances.astype(np.uint64) << HALF | random_words >> HALF
    return np.argsort(keys, kind="stable")


def _replace(
    ids: NDArray[np.integer[Any]], vocabulary: Vocabulary, random_words: NDArray[np.uint64]
) -> NDArray[np.integer[Any]]:
    """Return what stands at the masked positions: [MASK], a random ordinary token, or the token itself."""
    ordinary = np.delete(np.arange(vocabulary.size, dtype=ids.dtype), list(vocabulary.special_ids))
    draw = random_words >> HALF
    replaced = np.where(draw < int(MASK_SHARE * 2**HALF), np.array(vocabulary.mask_id, dtype=ids.dtype), ids)
    is_random = (draw >= int(MASK_SHARE * 2**HALF)) & (draw < int((MASK_SHARE + RANDOM_SHARE) * 2**HALF))
    replaced[is_random] = ordinary[_lower(random_words[is_random]) * len(ordinary) >> HALF]
    return replaced


def _lower(random_words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return random_words & (2**HALF - 1)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, ... for every range, end to end."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
