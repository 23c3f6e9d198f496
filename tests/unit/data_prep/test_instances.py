import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.instances import encode_pairs
from data_prep.pairs import make_next_sentence_pairs
from data_prep.seeds import generator
from data_prep.tokenized import TokenizedDocuments
from tests.unit.data_prep.example_documents import documents_strategy
from tests.unit.data_prep.example_shards import TOKENIZER

CLS, SEP = TOKENIZER.cls_id, TOKENIZER.sep_id


@settings(deadline=None, max_examples=60)
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
