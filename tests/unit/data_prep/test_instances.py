from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.instances import encode_pairs, instance_lengths
from data_prep.pairing.full_sentences import join_full_sentences
from data_prep.pairing.next_sentence import make_next_sentence_pairs
from data_prep.seeds import generator
from data_prep.tokenized import TokenizedDocuments
from tests.unit.data_prep.example_documents import documents_of, documents_strategy
from tests.unit.data_prep.example_shards import TOKENIZER

CLS, SEP = TOKENIZER.cls_id, TOKENIZER.sep_id


@settings(max_examples=60)
@given(documents_strategy(), st.integers(0, 99))
def test_instances_are_cls_a_sep_b_sep(documents: TokenizedDocuments, seed: int) -> None:
    pairs, _ = make_next_sentence_pairs(documents, max_seq_length=48, short_seq_prob=0.1, rng=generator(seed))
    encoded = encode_pairs(documents, pairs, TOKENIZER)
    ids: list[int] = []
    words: list[bool] = []
    for row in range(len(pairs)):
        a = slice(pairs.a_starts[row], pairs.a_starts[row] + pairs.a_lengths[row])
        b = slice(pairs.b_starts[row], pairs.b_starts[row] + pairs.b_lengths[row])
        ids += [CLS, *documents.token_ids[a].tolist(), SEP, *documents.token_ids[b].tolist(), SEP]
        words += [True, *documents.word_starts[a].tolist(), True, *documents.word_starts[b].tolist(), True]
    assert encoded.input_ids.tolist() == ids
    assert encoded.word_starts.tolist() == words
    assert encoded.input_ids.dtype == documents.token_ids.dtype
    np.testing.assert_array_equal(encoded.segment_a_lengths, pairs.a_lengths + 2)
    np.testing.assert_array_equal(encoded.lengths, pairs.a_lengths + pairs.b_lengths + 3)


@settings(max_examples=60)
@given(documents_strategy(), st.integers(8, 96), st.randoms(use_true_random=False))
def test_instances_of_full_sentences_have_a_sep_where_a_document_ends(
    documents: TokenizedDocuments, max_seq_length: int, random: Random
) -> None:
    whole, _ = join_full_sentences(documents, max_seq_length=max_seq_length)
    rows = list(range(len(whole)))
    random.shuffle(rows)
    pairs = whole.take(np.array(rows))
    encoded = encode_pairs(documents, pairs, TOKENIZER)
    is_end = np.zeros(len(documents.token_ids), dtype=bool)
    is_end[np.cumsum(documents.sentence_lengths, dtype=int)[np.cumsum(documents.document_sentences) - 1] - 1] = True
    ids: list[int] = []
    words: list[bool] = []
    for start, length in zip(pairs.a_starts.tolist(), pairs.a_lengths.tolist(), strict=True):
        ids.append(CLS)
        words.append(True)
        for position in range(start, start + length):
            ids.append(int(documents.token_ids[position]))
            words.append(bool(documents.word_starts[position]))
            if is_end[position] and position < start + length - 1:
                ids.append(SEP)
                words.append(True)
        ids.append(SEP)
        words.append(True)
    assert encoded.input_ids.tolist() == ids
    assert encoded.word_starts.tolist() == words
    np.testing.assert_array_equal(encoded.lengths, instance_lengths(pairs))
    np.testing.assert_array_equal(encoded.segment_a_lengths, encoded.lengths)
    assert encoded.lengths.max() <= max_seq_length


def test_a_document_that_ends_with_its_instance_has_one_sep() -> None:
    documents = documents_of([[3], [3], [6]])
    pairs, _ = join_full_sentences(documents, max_seq_length=9)
    encoded = encode_pairs(documents, pairs, TOKENIZER)
    ids = documents.token_ids.tolist()
    assert encoded.input_ids.tolist() == [CLS, *ids[:3], SEP, *ids[3:6], SEP, CLS, *ids[6:], SEP]
