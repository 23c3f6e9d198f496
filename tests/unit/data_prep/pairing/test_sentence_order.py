from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.long_sentences import split_long_sentences
from data_prep.pairing.sentence_order import make_sentence_order_pairs
from data_prep.tokenized import TokenizedDocuments, take_documents
from tests.unit.data_prep.example_documents import documents_of, documents_strategy, prose_like_documents
from tests.unit.data_prep.example_pairs import (
    bert_wikipedia,
    count_uses,
    cut_into_short_documents,
    document_at,
    maker,
    sentence_stops,
    share_guessed_from_lengths,
    short_documents,
)

make = maker(make_sentence_order_pairs, max_seq_length=32)


@settings(max_examples=60)
@given(documents_strategy(), st.integers(8, 64), st.sampled_from([0.0, 0.1, 1.0]), st.integers(0, 99))
def test_every_token_is_used_once_or_counted(
    documents: TokenizedDocuments, max_seq_length: int, short_seq_prob: float, seed: int
) -> None:
    pairs, statistics = make(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, seed=seed)
    uses = count_uses(documents, pairs, borrowed=np.zeros(len(pairs), dtype=bool))
    assert uses.max(initial=0) <= 1
    assert np.sum(uses == 0) == statistics["tokens_truncated"] + statistics["tokens_unused"]
    assert statistics["instances"] == len(pairs)
    assert statistics["swapped_pairs"] == pairs.labels.sum()


@settings(max_examples=60)
@given(documents_strategy(max_sentence=14), st.integers(32, 64), st.integers(0, 99))
def test_the_segments_are_neighbours_and_the_label_says_which_came_first(
    documents: TokenizedDocuments, max_seq_length: int, seed: int
) -> None:
    pairs, statistics = make(documents, max_seq_length=max_seq_length, seed=seed)
    a_stops, b_stops = pairs.a_starts + pairs.a_lengths, pairs.b_starts + pairs.b_lengths
    is_swapped = pairs.labels == 1
    np.testing.assert_array_equal(a_stops[~is_swapped], pairs.b_starts[~is_swapped])
    np.testing.assert_array_equal(b_stops[is_swapped], pairs.a_starts[is_swapped])
    np.testing.assert_array_equal(document_at(documents, pairs.a_starts), document_at(documents, b_stops - 1))
    assert (pairs.a_lengths + pairs.b_lengths <= max_seq_length - 3).all()
    assert statistics["touching_pairs"] == len(pairs)
    assert statistics["tokens_truncated"] == 0
    is_cut = ~np.isin(np.minimum(a_stops, b_stops), sentence_stops(documents))
    assert is_cut.sum() == statistics["sentences_cut"]


def test_two_sentences_that_are_too_long_together_lose_their_outer_ends_as_they_are_shown() -> None:
    pairs, statistics = make(documents_of([[28, 20]] * 40), short_seq_prob=0)
    starts = 48 * np.arange(40)
    is_swapped = pairs.labels == 1
    np.testing.assert_array_equal(pairs.a_starts - starts, np.where(is_swapped, 28 + 5, 13))
    np.testing.assert_array_equal(pairs.b_starts - starts, np.where(is_swapped, 0, 28))
    np.testing.assert_array_equal(pairs.a_lengths, 15)
    np.testing.assert_array_equal(pairs.b_lengths, 14)
    assert statistics["tokens_truncated"] == 40 * 19
    assert statistics["touching_pairs"] == np.sum(~is_swapped)


def test_the_last_sentence_is_not_left_alone() -> None:
    pairs, statistics = make(documents_of([[9, 9, 9, 9]] * 50), short_seq_prob=0)
    assert len(pairs) == 100
    assert (pairs.a_lengths + pairs.b_lengths == 18).all()
    assert statistics["sentences_cut"] == 0


@pytest.mark.parametrize(
    "documents",
    [prose_like_documents(1000), short_documents(8000), documents_of([[20]] * 6000)],
    ids=["prose", "short", "one-sentence"],
)
def test_half_of_the_pairs_are_swapped_and_no_length_tells_which(documents: TokenizedDocuments) -> None:
    pairs, _ = make(documents, max_seq_length=128)
    assert abs(pairs.labels.mean() - 0.5) < max(0.01, 4 * 0.5 / np.sqrt(len(pairs)))
    assert max(share_guessed_from_lengths(pairs).values()) < 0.53


@pytest.mark.parametrize("short", [False, True], ids=["articles", "short-documents"])
def test_no_length_betrays_the_order_in_real_text(shared_data: Path, short: bool) -> None:
    documents, _ = split_long_sentences(bert_wikipedia(shared_data, 72), 125)
    pairs, _ = make(cut_into_short_documents(documents) if short else documents, max_seq_length=128)
    assert len(pairs) > 3500
    assert max(share_guessed_from_lengths(pairs).values()) < 0.53


def test_no_documents_give_no_pairs() -> None:
    pairs, statistics = make(take_documents(documents_of([[3]]), np.zeros(0, dtype=int)))
    assert len(pairs) == 0
    assert not any(statistics.values())
