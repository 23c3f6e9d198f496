import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.full_sentences import join_full_sentences
from data_prep.pairing.next_sentence import make_next_sentence_pairs
from data_prep.pairing.pairs import (
    SegmentPairs,
    count_next_sentence_pairs,
    pairs_of_ranges,
    truncate_outer_ends,
)
from data_prep.pairing.text_spans import TextSpans
from data_prep.seeds import generator
from tests.unit.data_prep.example_documents import documents_of, prose_like_documents


def one_pair(a: tuple[int, int], b: tuple[int, int], label: bool = False) -> SegmentPairs:
    return pairs_of_ranges(
        (np.array([a[0]]), np.array([a[1]])), (np.array([b[0]]), np.array([b[1]])), np.array([label])
    )


@settings(max_examples=200)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 60))
def test_truncation_takes_one_token_at_a_time_from_the_longer_segment(a: int, b: int, max_tokens: int) -> None:
    cut = truncate_outer_ends(one_pair((100, 100 + a), (100 + a, 100 + a + b)), max_tokens)
    kept_a, kept_b = a, b
    while kept_a + kept_b > max_tokens:  # google-research/bert, truncate_seq_pair
        if kept_a > kept_b:
            kept_a -= 1
        else:
            kept_b -= 1
    assert (cut.a_lengths[0], cut.b_lengths[0]) == (kept_a, kept_b)
    assert cut.a_starts[0] + cut.a_lengths[0] == cut.b_starts[0] == 100 + a


def test_counts_are_measured_from_the_ranges() -> None:
    text = TextSpans(documents_of([[10, 10], [10, 10]]))
    columns = [  # A start and stop, B start and stop, label; then each, cut
        ((0, 10), (10, 20), False),
        ((0, 10), (11, 20), False),
        ((0, 10), (20, 30), True),
        ((0, 10), (10, 20), True),
    ]
    whole = [one_pair(*column) for column in columns]
    joined = SegmentPairs(
        **{name: np.concatenate([getattr(pair, name) for pair in whole]) for name in SegmentPairs.__slots__}
    )
    counts = count_next_sentence_pairs(text, joined, truncate_outer_ends(joined, 16))
    assert counts == {
        "instances": 4,
        "next_pairs": 2,
        "random_pairs": 2,
        "touching_pairs": 1,
        "pairs_from_one_document": 1,
        "tokens_truncated": 4 + 3 + 2 + 2,
        "tokens_borrowed": 16,
    }


def test_take_reorders_all_columns_alike() -> None:
    documents = prose_like_documents(5)
    pairs, _ = make_next_sentence_pairs(documents, max_seq_length=32, short_seq_prob=0.1, rng=generator(0))
    full, _ = join_full_sentences(documents, max_seq_length=512)
    for whole in (pairs, full):
        turned = whole.take(np.arange(len(whole))[::-1])
        for name in ("a_starts", "a_lengths", "b_starts", "b_lengths", "inner_ends"):
            np.testing.assert_array_equal(getattr(turned, name), getattr(whole, name)[::-1])
    assert pairs.labels is not None
    assert pairs.take(np.array([3, 1])).labels.tolist() == pairs.labels[[3, 1]].tolist()
    assert full.take(np.array([0])).labels is None
