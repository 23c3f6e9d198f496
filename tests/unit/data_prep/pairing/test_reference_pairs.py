import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.next_sentence import make_next_sentence_pairs
from data_prep.pairing.reference_pairs import make_reference_pairs
from data_prep.seeds import generator
from data_prep.tokenized import TokenizedDocuments
from tests.unit.data_prep.example_documents import documents_of, documents_strategy, prose_like_documents
from tests.unit.data_prep.example_pairs import (
    bert_wikipedia,
    count_uses,
    document_at,
    maker,
    sentence_stops,
    share_guessed_from_lengths,
    short_documents,
)

make = maker(make_reference_pairs, max_seq_length=128)


@settings(max_examples=60)
@given(documents_strategy(), st.integers(8, 64), st.sampled_from([0.0, 0.1, 1.0]), st.integers(0, 99))
def test_every_token_is_used_once_or_counted(
    documents: TokenizedDocuments, max_seq_length: int, short_seq_prob: float, seed: int
) -> None:
    pairs, statistics = make(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, seed=seed)
    uses = count_uses(documents, pairs, borrowed=pairs.labels == 1)
    assert uses.max() <= 1
    assert np.sum(uses == 0) == statistics["tokens_truncated"]
    assert (np.minimum(pairs.a_lengths, pairs.b_lengths) >= 1).all()
    assert (pairs.a_lengths + pairs.b_lengths <= max_seq_length - 3).all()


@settings(max_examples=40)
@given(documents_strategy(max_sentence=14), st.integers(0, 99))
def test_random_segments_run_to_the_target_or_to_the_end_of_their_document(
    documents: TokenizedDocuments, seed: int
) -> None:
    pairs, statistics = make(documents, max_seq_length=128, short_seq_prob=0, seed=seed)
    is_random = pairs.labels == 1
    b_stops = (pairs.b_starts + pairs.b_lengths)[is_random]
    is_full = (pairs.a_lengths + pairs.b_lengths)[is_random] == 125
    stops = sentence_stops(documents)[np.cumsum(documents.document_sentences) - 1]
    assert (is_full | np.isin(b_stops, stops)).all()
    if len(documents.ids) == 1:
        assert statistics["pairs_from_one_document"] == is_random.sum()


def test_pairs_are_like_those_of_the_published_algorithm() -> None:
    documents = short_documents(4000)
    pairs, statistics = make(documents)
    wanted = pairs_of_the_published_algorithm(documents, max_seq_length=128, short_seq_prob=0.1, seed=0)
    follows = wanted[wanted[:, 4] == 0]
    touching = np.mean(follows[:, 0] + follows[:, 1] == follows[:, 2])
    assert abs(len(pairs) / len(wanted) - 1) < 0.02
    assert abs(pairs.labels.mean() - wanted[:, 4].mean()) < 0.02
    assert abs(statistics["touching_pairs"] / statistics["next_pairs"] - touching) < 0.03
    for column, lengths in ((1, pairs.a_lengths), (3, pairs.b_lengths)):
        for label in (0, 1):
            ours, theirs = lengths[pairs.labels == label], wanted[wanted[:, 4] == label, column]
            shares = [np.cumsum(np.bincount(one, minlength=126)) / len(one) for one in (ours, theirs)]
            assert np.abs(shares[0] - shares[1]).max() < 0.04


def pairs_of_the_published_algorithm(
    documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, seed: int
) -> np.ndarray:
    """Return A's and B's first token and length, and the label, int [pairs, 5], by lists of tokens and loops."""
    rng = random.Random(seed)
    sentences = np.split(np.arange(len(documents.token_ids)), sentence_stops(documents)[:-1])
    ends = np.cumsum(documents.document_sentences)
    texts = [sentences[end - count : end] for end, count in zip(ends, documents.document_sentences, strict=True)]
    pairs = []
    for text in texts:
        max_tokens = max_seq_length - 3
        target = rng.randint(2, max_tokens) if rng.random() < short_seq_prob else max_tokens
        chunk: list[np.ndarray] = []
        i = 0
        while i < len(text):
            chunk.append(text[i])
            if i == len(text) - 1 or sum(map(len, chunk)) >= target:
                a_end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                a = [token for sentence in chunk[:a_end] for token in sentence]
                b = [token for sentence in chunk[a_end:] for token in sentence]
                is_random = len(chunk) == 1 or rng.random() < 0.5
                if is_random:
                    other = rng.choice([one for one in (rng.choice(texts) for _ in range(10)) if one is not text])
                    b = []
                    for sentence in other[rng.randint(0, len(other) - 1) :]:
                        b += sentence.tolist()
                        if len(b) >= target - len(a):
                            break
                    i -= len(chunk) - a_end
                while len(a) + len(b) > max_tokens:
                    (a if len(a) > len(b) else b).pop(0 if rng.random() < 0.5 else -1)
                pairs.append((a[0], len(a), b[0], len(b), int(is_random)))
                chunk = []
            i += 1
    return np.array(pairs)


@pytest.mark.parametrize(
    ("documents", "share"),
    [(documents_of([[20]] * 500), 1.0), (short_documents(4000), 0.61), (prose_like_documents(3000), 0.555)],
    ids=["one-sentence", "short", "prose"],
)
def test_too_many_pairs_are_random(documents: TokenizedDocuments, share: float) -> None:
    pairs, _ = make(documents)
    assert abs(pairs.labels.mean() - share) < 0.02


def test_most_next_segments_of_real_text_do_not_touch_and_ours_do(shared_data: Path) -> None:
    documents = bert_wikipedia(shared_data, 72)
    _, reference = make(documents)
    assert 0.1 < reference["touching_pairs"] / reference["next_pairs"] < 0.3
    _, ours = make_next_sentence_pairs(documents, max_seq_length=128, short_seq_prob=0.1, rng=generator(0))
    assert ours["touching_pairs"] == ours["next_pairs"]


def test_the_length_of_b_betrays_the_label_of_short_documents() -> None:
    pairs, _ = make(documents_of([[20, 20]] * 4000))
    assert share_guessed_from_lengths(pairs)["B"] > 0.6


def test_truncation_takes_from_both_ends_of_the_longer_segment() -> None:
    documents = documents_of([[100, 100], [100, 100]] * 500)
    pairs, _ = make(documents, short_seq_prob=0)
    follows = pairs.labels == 0
    at = pairs.a_starts[follows] % 200
    assert (pairs.a_lengths + pairs.b_lengths == 125).all()
    # 37 of A's 100 tokens go, each from either end.
    assert abs(at.mean() - 18.5) < 1
    assert 5 < at.min() < at.max() < 32


@pytest.mark.parametrize("num_documents", [2, 5])
def test_random_segments_come_from_all_other_documents(num_documents: int) -> None:
    documents = documents_of([[60] * 300] * num_documents)
    pairs, statistics = make(documents, short_seq_prob=0)
    is_random = pairs.labels == 1
    of_a, of_b = (document_at(documents, starts[is_random]) for starts in (pairs.a_starts, pairs.b_starts))
    # Ten draws fail to find one other document with a chance of 1 in 1024.
    assert (of_a == of_b).sum() == statistics["pairs_from_one_document"] <= 0.01 * len(of_a)
    counts = np.zeros((num_documents, num_documents), dtype=int)
    np.add.at(counts, (of_a, of_b), 1)
    others = counts[~np.eye(num_documents, dtype=bool)]
    assert np.abs(others - others.mean()).max() < 5 * np.sqrt(others.mean())


def test_the_target_length_is_drawn_once_per_document() -> None:
    documents = documents_of([[3] * 400] * 40, word_start_share=1)
    pairs, _ = make(documents, short_seq_prob=0.5)
    lengths, of = pairs.a_lengths + pairs.b_lengths, document_at(documents, pairs.a_starts)
    follows = pairs.labels == 0
    of_documents = [lengths[follows & (of == document)] for document in np.unique(of[follows])]
    # Only the end of a document is shorter.
    assert all(np.sum(one < one.max()) <= 1 for one in of_documents)
    longest = [int(one.max()) for one in of_documents]
    assert 8 < longest.count(125) < 32
    assert len(set(longest)) > 8
