import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pairing.full_sentences import join_full_sentences
from data_prep.tokenized import TokenizedDocuments, take_documents
from tests.unit.data_prep.example_documents import documents_of, documents_strategy, prose_like_documents


@settings(max_examples=100)
@given(documents_strategy(), st.integers(8, 96))
def test_instances_are_those_of_a_loop_over_sentences(documents: TokenizedDocuments, max_seq_length: int) -> None:
    is_first = np.zeros(len(documents.sentence_lengths), dtype=bool)
    is_first[np.cumsum(documents.document_sentences)[:-1]] = True
    instances: list[list[tuple[int, bool]]] = [[]]
    for length, begins in zip(documents.sentence_lengths.tolist(), is_first.tolist(), strict=True):
        separators = sum(begins for _, begins in instances[-1][1:]) + begins
        if instances[-1] and sum(one for one, _ in instances[-1]) + length + separators > max_seq_length - 2:
            instances.append([])
        instances[-1].append((length, begins))
    found, statistics = join_full_sentences(documents, max_seq_length=max_seq_length)
    wanted = [sum(length for length, _ in instance) for instance in instances]
    np.testing.assert_array_equal(found.a_lengths, np.minimum(wanted, max_seq_length - 2))
    np.testing.assert_array_equal(found.a_starts, np.cumsum(wanted) - wanted)
    assert found.inner_ends.tolist() == [sum(begins for _, begins in instance[1:]) for instance in instances]
    assert found.labels is None
    assert not found.b_lengths.any()
    assert statistics == {
        "instances": len(instances),
        "documents_joined": found.inner_ends.sum(),
        "tokens_truncated": len(documents.token_ids) - found.a_lengths.sum(),
    }


def test_an_instance_is_full_but_for_the_next_sentence() -> None:
    found, statistics = join_full_sentences(prose_like_documents(300), max_seq_length=512)
    assert 490 < (found.a_lengths + found.inner_ends)[:-1].mean() <= 510
    assert statistics["tokens_truncated"] == 0
    assert statistics["documents_joined"] > 200


def test_no_documents_give_no_instances() -> None:
    empty = take_documents(documents_of([[3]]), np.zeros(0, dtype=int))
    found, statistics = join_full_sentences(empty, max_seq_length=128)
    assert len(found) == 0
    assert not any(statistics.values())
