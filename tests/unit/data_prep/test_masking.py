import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.masking import MaskedInstances, Vocabulary, choose_units, count_predictions, mask_instances
from data_prep.seeds import generator

SPECIAL_IDS = [0, 1, 2, 3, 4]
CLS, SEP, MASK = 2, 3, 4
VOCABULARY = Vocabulary(size=200, mask_id=MASK, special_ids=SPECIAL_IDS)


def instances(lengths: list[int], seed: int = 0, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    """Return ids [tokens] of `[CLS] A [SEP] B [SEP]` instances, and their lengths."""
    rng = np.random.default_rng(seed)
    parts = []
    for length in lengths:
        ids = rng.integers(5, VOCABULARY.size, size=length)
        ids[[0, length // 2, -1]] = [CLS, SEP, SEP]
        parts.append(ids)
    return np.concatenate(parts).astype(dtype), np.array(lengths)


def mask(
    ids: np.ndarray, lengths: np.ndarray, *, seed: int = 0, most: int = 20, words: np.ndarray | None = None
) -> MaskedInstances:
    return mask_instances(
        ids, lengths, vocabulary=VOCABULARY, masked_lm_prob=0.15, max_predictions_per_seq=most,
        rng=generator("masks", seed), word_starts=words,
    )  # fmt: skip


def flat_positions(masked: MaskedInstances, lengths: np.ndarray) -> np.ndarray:
    return np.repeat(np.cumsum(lengths) - lengths, masked.counts) + masked.positions


many_lengths = st.lists(st.integers(5, 60), min_size=1, max_size=12)


@settings(deadline=None, max_examples=100)
@given(many_lengths, st.integers(1, 20), st.integers(0, 99), st.sampled_from([None, 0.0, 0.4, 1.0]))
def test_masks_restore_the_input_and_spare_special_tokens(
    sizes: list[int], most: int, seed: int, word_share: float | None
) -> None:
    ids, lengths = instances(sizes, seed)
    words = None if word_share is None else np.random.default_rng(seed).random(len(ids)) < word_share
    before = ids.copy()
    masked = mask(ids, lengths, seed=seed, most=most, words=words)
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


@settings(deadline=None, max_examples=100)
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


@settings(deadline=None, max_examples=200)
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


@settings(deadline=None, max_examples=100)
@given(many_lengths, st.integers(0, 99), st.sampled_from([0.3, 0.7]))
def test_whole_words_are_masked_whole_and_within_the_budget(sizes: list[int], seed: int, share: float) -> None:
    ids, lengths = instances(sizes, seed)
    words = np.random.default_rng(seed).random(len(ids)) < share
    masked = mask(ids, lengths, seed=seed, words=words)
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
    masked = mask(ids, np.array([3, 3]), most=3, words=np.zeros(6, dtype=bool))
    assert masked.counts.tolist() == [0, 0]  # each is one word of three tokens, over the budget of one


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


def test_nothing_gives_nothing() -> None:
    masked = mask(np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=int))
    assert len(masked.input_ids) == len(masked.positions) == len(masked.counts) == 0


def test_ids_that_cannot_hold_the_vocabulary_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="uint8"):
        mask_instances(
            np.array([5], dtype=np.uint8), np.array([1]), vocabulary=Vocabulary(size=300, mask_id=4, special_ids=[4]),
            masked_lm_prob=0.15, max_predictions_per_seq=1, rng=generator(0),
        )  # fmt: skip
