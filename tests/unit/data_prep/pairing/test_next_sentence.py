from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.long_sentences import split_long_sentences
from data_prep.pairing.next_sentence import make_next_sentence_pairs, nearest_of_another_document
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

make = maker(make_next_sentence_pairs, max_seq_length=32)


@settings(max_examples=60)
@given(documents_strategy(), st.integers(8, 64), st.sampled_from([0.0, 0.1, 1.0]), st.integers(0, 99))
def test_every_token_is_used_once_or_counted(
    documents: TokenizedDocuments, max_seq_length: int, short_seq_prob: float, seed: int
) -> None:
    pairs, statistics = make(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, seed=seed)
    is_random = pairs.labels == 1
    uses = count_uses(documents, pairs, borrowed=is_random)
    assert uses.max(initial=0) <= 1
    assert np.sum(uses == 0) == statistics["tokens_truncated"] + statistics["tokens_unused"]
    assert statistics["instances"] == len(pairs)
    assert statistics["random_pairs"] == is_random.sum()
    assert statistics["tokens_borrowed"] == pairs.b_lengths[is_random].sum()


@settings(max_examples=60)
@given(documents_strategy(), st.integers(8, 64), st.integers(0, 99))
def test_segments_are_what_their_label_says(documents: TokenizedDocuments, max_seq_length: int, seed: int) -> None:
    pairs, statistics = make(documents, max_seq_length=max_seq_length, seed=seed)
    a_stops, b_stops = pairs.a_starts + pairs.a_lengths, pairs.b_starts + pairs.b_lengths
    follows = pairs.labels == 0
    assert np.isin(pairs.labels, [0, 1]).all()
    assert (pairs.a_lengths >= 1).all()
    assert (pairs.b_lengths >= 1).all()
    assert (pairs.a_lengths + pairs.b_lengths <= max_seq_length - 3).all()
    np.testing.assert_array_equal(pairs.b_starts[follows], a_stops[follows])
    of_a, of_b = document_at(documents, pairs.a_starts), document_at(documents, pairs.b_starts)
    np.testing.assert_array_equal(of_a == of_b, follows)
    assert statistics["next_pairs"] == statistics["touching_pairs"] == follows.sum()
    assert statistics["pairs_from_one_document"] == 0
    # No segment runs over the end of its document.
    np.testing.assert_array_equal(document_at(documents, a_stops - 1), of_a)
    np.testing.assert_array_equal(document_at(documents, b_stops - 1), of_b)


@settings(max_examples=50)
@given(documents_strategy(), st.integers(0, 99))
def test_segments_meet_at_sentence_ends_or_at_counted_cuts_before_words(
    documents: TokenizedDocuments, seed: int
) -> None:
    pairs, statistics = make(documents, seed=seed)
    a_stops = pairs.a_starts + pairs.a_lengths
    is_cut = ~np.isin(a_stops, sentence_stops(documents))
    assert is_cut.sum() == statistics["sentences_cut"]
    assert documents.word_starts[a_stops[is_cut]].all()
    assert documents.word_starts[pairs.b_starts].all()


@pytest.mark.parametrize("partner", [[], [[1]]], ids=["alone", "beside-a-single-word"])
def test_a_document_without_partner_gets_only_following_segments(partner: list[list[int]]) -> None:
    pairs, statistics = make(documents_of([[7, 9, 4, 1, 12, 6, 8, 8], *partner]))
    assert len(pairs) > 0
    assert not pairs.labels.any()
    assert statistics["documents_without_partner"] == 1
    assert make(documents_of([[7, 2], [9, 1]]))[1]["documents_without_partner"] == 0


def test_a_lone_word_makes_no_instance_whatever_the_coin() -> None:
    documents = documents_of([[1], [5, 6], [3], [4, 2]], word_start_share=0)
    for seed in range(20):
        _, statistics = make(documents, seed=seed)
        assert statistics["documents_without_instance"] == 2
        # The last sentence of the second and of the fourth document is left alone whenever its pair is random.
        assert statistics["sentences_unused"] == 2 + statistics["random_pairs"]
        assert statistics["tokens_unused"] - 4 in {0: [0], 1: [6, 2], 2: [8]}[statistics["random_pairs"]]


def test_no_documents_give_no_pairs() -> None:
    pairs, statistics = make(take_documents(documents_of([[3]]), np.zeros(0, dtype=int)))
    assert len(pairs) == 0
    assert not any(statistics.values())


@pytest.mark.parametrize(
    ("documents", "max_seq_length", "short_seq_prob"),
    [
        (prose_like_documents(300), 128, 0.1),
        (prose_like_documents(300), 512, 0.1),
        (prose_like_documents(300), 128, 1.0),
        (documents_of([[20]] * 4000), 128, 0.1),
        (documents_of([[150, 150, 150]] * 1500), 128, 0.1),
        (documents_of([[1, 1]] * 6000), 128, 0.1),
    ],
    ids=["prose", "prose-512", "all-short", "one-sentence", "long-sentences", "tiny"],
)
def test_half_of_the_pairs_are_random(
    documents: TokenizedDocuments, max_seq_length: int, short_seq_prob: float
) -> None:
    pairs, _ = make(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob)
    tolerance = max(0.01, 4 * 0.5 / np.sqrt(len(pairs)))
    assert abs(pairs.labels.mean() - 0.5) < tolerance


@pytest.mark.parametrize(
    ("documents", "max_seq_length"),
    [
        (short_documents(8000), 128),
        (short_documents(8000), 512),
        (prose_like_documents(1000), 128),
        (prose_like_documents(3000), 512),
        (documents_of([[30]] * 6000), 128),
        (documents_of([[20, 20]] * 4000), 128),
    ],
    ids=["short", "short-512", "prose", "prose-512", "one-sentence", "two-sentences"],
)
def test_no_length_betrays_the_label(documents: TokenizedDocuments, max_seq_length: int) -> None:
    pairs, _ = make(documents, max_seq_length=max_seq_length)
    assert len(pairs) > 5000
    assert max(share_guessed_from_lengths(pairs).values()) < 0.53


@pytest.mark.parametrize("short", [False, True], ids=["articles", "short-documents"])
def test_no_length_betrays_the_label_in_real_text(shared_data: Path, short: bool) -> None:
    documents, _ = split_long_sentences(bert_wikipedia(shared_data, 72), 125)
    pairs, _ = make(cut_into_short_documents(documents) if short else documents, max_seq_length=128)
    assert len(pairs) > 4000
    assert max(share_guessed_from_lengths(pairs).values()) < 0.53


def test_a_broken_sentence_says_nothing_about_the_label() -> None:
    documents = documents_of([[30], [20, 20]] * 4000, word_start_share=1)
    pairs, _ = make(documents, max_seq_length=128)
    stops = sentence_stops(documents)
    a_is_broken = ~np.isin(pairs.a_starts + pairs.a_lengths, stops)
    b_is_broken = ~np.isin(pairs.b_starts, np.append(0, stops))
    np.testing.assert_array_equal(a_is_broken, b_is_broken)
    for is_broken in (a_is_broken, ~a_is_broken):
        labels = pairs.labels[is_broken]
        assert len(labels) > 3000
        assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))


def test_only_short_targets_and_document_ends_leave_room() -> None:
    documents = documents_of([[10] * 4000] * 4, word_start_share=1)
    full, _ = make(documents, max_seq_length=128, short_seq_prob=0)
    assert np.mean(full.a_lengths + full.b_lengths == 125) > 0.97
    mixed, _ = make(documents, max_seq_length=128, short_seq_prob=0.5)
    is_short = mixed.a_lengths + mixed.b_lengths < 125
    # A target above 120 still takes the thirteenth sentence: 120 of the 124 possible targets are under it.
    expected = 0.5 * 119 / 124
    assert abs(is_short.mean() - expected) < 4 * 0.5 / np.sqrt(len(mixed)) + 0.03


def test_random_segments_come_from_all_other_documents() -> None:
    documents = documents_of([[10, 10, 10, 10, 10, 10]] * 5)
    counts = np.zeros((5, 5), dtype=int)
    for seed in range(300):
        pairs, _ = make(documents, seed=seed)
        is_random = pairs.labels == 1
        of_a = document_at(documents, pairs.a_starts[is_random])
        np.add.at(counts, (of_a, document_at(documents, pairs.b_starts[is_random])), 1)
    per_cell = counts.sum() / 20
    others = counts[~np.eye(5, dtype=bool)]
    assert not counts.diagonal().any()
    assert np.abs(others - per_cell).max() < 4.5 * np.sqrt(per_cell)


def test_where_one_document_is_nearly_all_its_random_segments_come_from_the_others() -> None:
    documents = documents_of([[20] * 4000, [5, 5], [30, 30, 30, 30]])
    pairs, statistics = make(documents, max_seq_length=128)
    of_b = document_at(documents, pairs.b_starts[pairs.labels == 1])
    assert len(of_b) > 300
    assert statistics["pairs_from_one_document"] == 0
    assert (of_b > 0).mean() > 0.95


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), min_size=2, max_size=30))
def test_the_nearest_place_of_another_document_is_that_of_a_search(places: list[tuple[int, int]]) -> None:
    places = sorted(places, key=lambda place: place[1])
    documents, lengths = (np.array(column) for column in zip(*places, strict=True))
    if len(set(documents.tolist())) == 1:
        return
    found = nearest_of_another_document(documents, lengths)
    assert (documents[found] != documents).all()
    for place, length in enumerate(lengths):
        others = lengths[documents != documents[place]]
        assert abs(lengths[found[place]] - length) == np.abs(others - length).min()


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others() -> None:
    documents = prose_like_documents(20)
    rows = [
        np.stack([getattr(make(documents, seed=seed)[0], name) for name in ("a_starts", "b_starts")])
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[0].shape != rows[2].shape or (rows[0] != rows[2]).any()
