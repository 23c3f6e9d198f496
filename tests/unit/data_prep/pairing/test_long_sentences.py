import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.long_sentences import split_long_sentences
from data_prep.tokenized import TokenizedDocuments
from tests.unit.data_prep.example_documents import documents_of, documents_strategy


@settings(max_examples=100)
@given(documents_strategy(max_sentence=200), st.integers(5, 60))
def test_parts_are_the_same_tokens_in_the_same_documents(documents: TokenizedDocuments, max_tokens: int) -> None:
    parts, num_split = split_long_sentences(documents, max_tokens)
    assert num_split == np.sum(documents.sentence_lengths > max_tokens)
    assert parts.token_ids is documents.token_ids
    old_stops, new_stops = (np.cumsum(one.sentence_lengths, dtype=int) for one in (documents, parts))
    assert np.isin(old_stops, new_stops).all()
    assert documents.word_starts[np.concatenate(([0], new_stops[:-1]))].all()
    old_ends, new_ends = (
        stops[np.cumsum(one.document_sentences, dtype=int) - 1]
        for one, stops in ((documents, old_stops), (parts, new_stops))
    )
    np.testing.assert_array_equal(old_ends, new_ends)


@settings(max_examples=50)
@given(st.integers(61, 2000), st.integers(5, 60))
def test_where_every_token_is_a_word_parts_are_equal_and_half_at_most(length: int, max_tokens: int) -> None:
    parts, _ = split_long_sentences(documents_of([[length]], word_start_share=1), max_tokens)
    assert parts.sentence_lengths.max() <= max_tokens // 2
    assert np.ptp(parts.sentence_lengths) <= 1


def test_one_endless_word_stays_whole() -> None:
    documents = documents_of([[3, 100, 4]], word_start_share=0)
    parts, num_split = split_long_sentences(documents, 20)
    assert parts.sentence_lengths.tolist() == [3, 100, 4]
    assert num_split == 1
