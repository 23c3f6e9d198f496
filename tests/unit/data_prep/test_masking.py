from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.masking import (
    MaskedInstances,
    MaskingRules,
    Vocabulary,
    choose_units,
    count_predictions,
    join_units,
    mask_instances,
)
from data_prep.seeds import bit_generator

SPECIAL_IDS = [0, 1, 2, 3, 4]
CLS, SEP, MASK = 2, 3, 4
VOCABULARY = Vocabulary(size=200, mask_id=MASK, special_ids=SPECIAL_IDS)
GOLDEN_PLACES = [1, 2, 3, 10, 31, 32, 33, 39]
GOLDEN_SEEN = [MASK, 183, MASK, MASK, MASK, MASK, MASK, MASK]


def instances(lengths: list[int], seed: int = 0, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    """Return ids [tokens] of `[CLS] A [SEP] B [SEP]` instances, and their lengths."""
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        ids = rng.integers(5, VOCABULARY.size, size=length)
        ids[[0, length // 2, -1]] = [CLS, SEP, SEP]
        parts.append(ids)
    return np.concatenate(parts).astype(dtype), np.array(lengths)


def rules(*, most: int = 20, whole_word: bool = False, max_ngram: int = 1) -> MaskingRules:
    return MaskingRules(
        vocabulary=VOCABULARY, masked_lm_prob=0.15, max_predictions_per_seq=most, whole_word=whole_word,
        max_ngram=max_ngram,
    )  # fmt: skip


def random_words(tokens: int, seed: int = 0) -> np.ndarray:
    return bit_generator("masks", seed).random_raw((tokens, 2))


def mask(
    ids: np.ndarray,
    lengths: np.ndarray,
    *,
    seed: int = 0,
    most: int = 20,
    words: np.ndarray | None = None,
    max_ngram: int = 1,
) -> MaskedInstances:
    return mask_instances(
        ids, lengths, rules(most=most, whole_word=words is not None, max_ngram=max_ngram),
        random_words=random_words(len(ids), seed), word_starts=words,
    )  # fmt: skip


def flat_positions(masked: MaskedInstances, lengths: np.ndarray) -> np.ndarray:
    return np.repeat(np.cumsum(lengths) - lengths, masked.counts) + masked.positions


def draw_words(tokens: int, share: float | None, seed: int) -> np.ndarray | None:
    """Return random word starts, about `share` of the tokens, or None for masks of single tokens."""
    return None if share is None else np.random.default_rng(seed).random(tokens) < share


many_lengths = st.lists(st.integers(5, 60), min_size=1, max_size=12)
word_shares = st.sampled_from([None, 0.0, 0.4, 1.0])
max_ngrams = st.sampled_from([1, 2, 3, 7])


@settings(max_examples=100)
@given(many_lengths, st.integers(1, 20), st.integers(0, 99), word_shares, max_ngrams)
def test_masks_restore_the_input_and_spare_special_tokens(
    sizes: list[int], most: int, seed: int, word_share: float | None, max_ngram: int
) -> None:
    ids, lengths = instances(sizes, seed)
    words = draw_words(len(ids), word_share, seed)
    before = ids.copy()
    masked = mask(ids, lengths, seed=seed, most=most, words=words, max_ngram=max_ngram)
    np.testing.assert_array_equal(ids, before)
    assert masked.input_ids.dtype == masked.ids.dtype == ids.dtype
    places = flat_positions(masked, lengths)
    assert len(masked.positions) == len(masked.ids) == masked.counts.sum()
    assert (np.diff(places) > 0).all()
    assert (masked.positions < np.repeat(lengths, masked.counts)).all()
    restored = masked.input_ids.copy()
    restored[places] = masked.ids
    np.testing.assert_array_equal(restored, before)
    assert not np.isin(masked.ids, SPECIAL_IDS).any()
    seen = masked.input_ids[places]
    assert not np.isin(seen[seen != MASK], SPECIAL_IDS).any()


@settings(max_examples=100)
@given(many_lengths, st.integers(1, 20))
def test_each_instance_gets_the_number_of_google_research_bert(sizes: list[int], most: int) -> None:
    ids, lengths = instances(sizes)
    expected = [min(most, max(1, round(length * 0.15))) for length in sizes]
    assert mask(ids, lengths, most=most).counts.tolist() == expected
    assert count_predictions(lengths, 0.15, most).tolist() == expected


def test_an_instance_with_fewer_ordinary_tokens_than_its_budget_masks_them_all() -> None:
    ids = np.array([CLS, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, SEP])
    masked = mask(ids, np.array([16]))
    assert masked.positions.tolist() == [14]


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(1, 6), max_size=12), min_size=1, max_size=6), st.integers(0, 99))
def test_units_are_chosen_as_by_a_loop(sizes: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit_sizes = np.array([size for one in sizes for size in one], dtype=np.int64)
    unit_instances = np.repeat(np.arange(len(sizes)), [len(one) for one in sizes])
    budget = rng.integers(1, 9, size=len(sizes))
    shuffled = [rng.permutation(np.flatnonzero(unit_instances == number)) for number in range(len(sizes))]
    expected = []
    for number, units in enumerate(shuffled):
        left = budget[number]
        for unit in units:
            if unit_sizes[unit] <= left:
                expected.append(unit)
                left -= unit_sizes[unit]
    order = np.concatenate(shuffled).astype(np.int64)
    assert choose_units(order, unit_instances, unit_sizes, budget).tolist() == sorted(expected)


@settings(max_examples=100)
@given(many_lengths, st.integers(0, 99), st.sampled_from([0.3, 0.7]), max_ngrams)
def test_whole_words_are_masked_whole_and_within_the_budget(
    sizes: list[int], seed: int, share: float, max_ngram: int
) -> None:
    ids, lengths = instances(sizes, seed)
    words = draw_words(len(ids), share, seed)
    assert words is not None
    masked = mask(ids, lengths, seed=seed, words=words, max_ngram=max_ngram)
    is_masked = np.zeros(len(ids), dtype=bool)
    is_masked[flat_positions(masked, lengths)] = True
    is_special = np.isin(ids, SPECIAL_IDS)
    for place in range(1, len(ids)):
        continues_word = not words[place] and not is_special[place] and not is_special[place - 1]
        if continues_word:
            assert is_masked[place] == is_masked[place - 1]
    assert (masked.counts <= count_predictions(lengths, 0.15, 20)).all()


def test_a_word_never_runs_into_the_next_instance() -> None:
    ids = np.array([7, 8, 9, 7, 8, 9])  # no special tokens between: only the lengths tell the two apart
    masked = mask_instances(
        ids, np.array([3, 3]), replace(rules(whole_word=True), masked_lm_prob=0.9),
        random_words=random_words(6), word_starts=np.zeros(6, dtype=bool),
    )  # fmt: skip
    assert masked.counts.tolist() == [3, 3]  # each is one word of three tokens; one of six would exceed both budgets


def test_a_word_that_exceeds_the_budget_is_passed_over() -> None:
    masked = mask(np.array([CLS, 7, 8, 9, SEP]), np.array([5]), words=np.zeros(5, dtype=bool))
    assert masked.counts.tolist() == [0]


def test_shares_are_80_10_10_and_15_percent() -> None:
    ids, lengths = instances([100] * 3000)
    masked = mask(ids, lengths)
    assert (masked.counts == 15).all()
    total = masked.counts.sum()
    seen = masked.input_ids[flat_positions(masked, lengths)]
    is_mask = seen == MASK
    same = (seen == masked.ids).sum()
    ordinary = VOCABULARY.size - len(SPECIAL_IDS)
    for count, share in (
        (is_mask.sum(), 0.8),
        (same, 0.1 + 0.1 / ordinary),
        ((~is_mask & (seen != masked.ids)).sum(), 0.1 * (1 - 1 / ordinary)),
    ):
        assert abs(count - total * share) < 4 * np.sqrt(total * share * (1 - share))


def test_every_ordinary_position_is_equally_likely() -> None:
    draws, length = 20_000, 20
    ids, lengths = instances([length] * draws)
    masked = mask(ids, lengths)
    counts = np.bincount(masked.positions, minlength=length)
    ordinary = [place for place in range(length) if place not in (0, length // 2, length - 1)]
    share = 3 / len(ordinary)
    assert counts[[0, length // 2, length - 1]].tolist() == [0, 0, 0]
    assert np.abs(counts[ordinary] - draws * share).max() < 4 * np.sqrt(draws * share * (1 - share))


def test_random_tokens_come_from_the_whole_ordinary_vocabulary() -> None:
    ids, lengths = instances([100] * 4000)
    masked = mask(np.where(ids > 5, 5, ids), lengths)
    seen = masked.input_ids[flat_positions(masked, lengths)]
    counts = np.bincount(seen[(seen != MASK) & (seen != 5)], minlength=VOCABULARY.size)
    expected = masked.counts.sum() * 0.1 / (VOCABULARY.size - len(SPECIAL_IDS))
    assert not counts[SPECIAL_IDS].any()
    assert np.abs(counts[6:] - expected).max() < 5 * np.sqrt(expected)  # 5: the worst of 194 counts


def test_the_same_seed_gives_the_same_masks_and_another_gives_others() -> None:
    ids, lengths = instances([60] * 10)
    first, again, other = (mask(ids, lengths, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.input_ids, again.input_ids)
    assert (first.positions != other.positions).any()


@settings(max_examples=60)
@given(many_lengths, st.integers(0, 99), word_shares, max_ngrams)
def test_the_masks_of_an_instance_depend_on_its_own_random_words_only(
    sizes: list[int], seed: int, word_share: float | None, max_ngram: int
) -> None:
    ids, lengths = instances(sizes, seed)
    words = draw_words(len(ids), word_share, seed)
    masked = mask(ids, lengths, seed=seed, words=words, max_ngram=max_ngram)
    stops = np.cumsum(lengths)
    for number, (start, stop) in enumerate(zip(stops - lengths, stops, strict=True)):
        alone = mask_instances(
            ids[start:stop], lengths[[number]], rules(whole_word=words is not None, max_ngram=max_ngram),
            random_words=random_words(len(ids), seed)[start:stop],
            word_starts=None if words is None else words[start:stop],
        )  # fmt: skip
        before = int(masked.counts[:number].sum())
        own = slice(before, before + int(masked.counts[number]))
        assert alone.positions.tolist() == masked.positions[own].tolist()
        assert alone.input_ids.tolist() == masked.input_ids[start:stop].tolist()


def test_masks_are_those_of_the_first_release_that_drew_them_from_raw_words() -> None:
    """Golden: a change here would change the masks of every run with dynamic ones that goes on."""
    ids, lengths = np.arange(10, 58, dtype=np.uint16), np.array([24, 24])
    ids[[0, 11, 23, 24, 40, 47]] = [CLS, SEP, SEP, CLS, SEP, SEP]
    masked = mask(ids, lengths, words=ids % 3 > 0, max_ngram=2)
    assert flat_positions(masked, lengths).tolist() == GOLDEN_PLACES
    assert masked.input_ids[flat_positions(masked, lengths)].tolist() == GOLDEN_SEEN


@settings(max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 99))
def test_units_are_joined_as_by_a_loop(stretches: list[int], max_ngram: int, seed: int) -> None:
    words = random_words(sum(stretches), seed)[:, 0]
    begins = np.zeros(len(words), dtype=bool)
    begins[np.cumsum(stretches) - stretches] = True
    expected, first = [], 0
    for size in stretches:
        at = 0
        for word in words[first : first + size].tolist():
            if at < size:
                expected.append(first + at)
                at += ngram_length((word % 2**32) / 2**32, max_ngram)
        first += size
    assert join_units(begins, words, max_ngram).tolist() == expected


def ngram_length(draw: float, max_ngram: int) -> int:
    """Return n with probability proportional to 1 / n, for a uniform draw from [0, 1)."""
    total = sum(1 / n for n in range(1, max_ngram + 1))
    reached = 0.0
    for n in range(1, max_ngram + 1):
        reached += 1 / n / total
        if draw < reached:
            return n
    return max_ngram


def test_the_lengths_of_runs_are_those_of_albert() -> None:
    begins = np.zeros(60_000, dtype=bool)
    begins[0] = True
    runs = join_units(begins, random_words(len(begins))[:, 0], 3)
    counts = np.bincount(np.diff(runs), minlength=4)[1:]
    shares = np.array([6, 3, 2]) / 11
    assert (np.abs(counts - counts.sum() * shares) < 4 * np.sqrt(counts.sum() * shares * (1 - shares))).all()


def masked_table(masked: MaskedInstances, length: int) -> np.ndarray:
    """Return which positions are masked, bool [instances, length], of instances of equal length."""
    table = np.zeros((len(masked.counts), length), dtype=bool)
    table[np.repeat(np.arange(len(table)), masked.counts), masked.positions] = True
    return table


def ngrams_by_a_loop(stretches: list[tuple[int, int]], budget: int, rng: np.random.Generator) -> list[int]:
    """Return the positions that an instance masks: runs cut from each stretch, taken in random order while they fit."""
    units = []
    for start, stop in stretches:
        while start < stop:
            size = ngram_length(rng.random(), 3)
            units.append(range(start, min(start + size, stop)))
            start += size
    chosen: list[int] = []
    for number in rng.permutation(len(units)):
        if len(chosen) + len(units[number]) <= budget:
            chosen += units[number]
    return chosen


def test_ngrams_are_masked_as_often_where_and_as_long_as_by_a_loop() -> None:
    draws, length = 6000, 48
    ids, lengths = instances([length] * draws)
    ours = masked_table(mask(ids, lengths, max_ngram=3), length)
    rng = np.random.default_rng(1)
    theirs = np.zeros_like(ours)
    for row in theirs:
        row[ngrams_by_a_loop([(1, length // 2), (length // 2 + 1, length - 1)], 7, rng)] = True
    for measured in (
        lambda table: table,  # every position
        lambda table: table.sum(axis=1, keepdims=True),  # masks per instance
        lambda table: np.stack([run_counts(table, size) for size in (1, 2, 3, 4, 5)], axis=1),
    ):
        left, right = measured(ours).astype(float), measured(theirs).astype(float)
        sigma = np.sqrt((left.var(axis=0) + right.var(axis=0)) / draws)
        assert (np.abs(left.mean(axis=0) - right.mean(axis=0)) <= 4 * sigma).all()


def run_counts(table: np.ndarray, size: int) -> np.ndarray:
    """Return how many runs of exactly `size` masked neighbours each row has, int [rows]."""
    padded = np.pad(table, ((0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size + 2, axis=1)
    return (windows[:, :, 1:-1].all(axis=2) & ~windows[:, :, 0] & ~windows[:, :, -1]).sum(axis=1)


def test_with_ngrams_every_ordinary_position_is_about_equally_likely() -> None:
    """The ends of a segment gain a little: the runs that it cuts short fit where longer ones are passed over."""
    draws, length = 30_000, 128
    ids, lengths = instances([length] * draws)
    masked = mask(ids, lengths, max_ngram=3)
    table = masked_table(masked, length)
    ordinary = np.setdiff1d(np.arange(length), [0, length // 2, length - 1])
    rates = table.mean(axis=0)
    mean = rates[ordinary].mean()
    assert masked.counts.mean() > 18.9  # of a budget of 19: few runs no longer fit
    assert np.abs(rates[ordinary] / mean - 1).max() < 0.03 + 4 * np.sqrt((1 - mean) / (mean * draws))


def test_nothing_gives_nothing() -> None:
    masked = mask(np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=int))
    assert len(masked.input_ids) == len(masked.positions) == len(masked.counts) == 0


def test_ids_that_cannot_hold_the_vocabulary_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="uint8"):
        mask_instances(
            np.array([5], dtype=np.uint8), np.array([1]),
            replace(rules(), vocabulary=Vocabulary(size=300, mask_id=4, special_ids=[4])),
            random_words=random_words(1), word_starts=None,
        )  # fmt: skip
