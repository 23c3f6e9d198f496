from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.documents import clean_text, document_id
from data_prep.encoder import Encoder, make_encoder
from data_prep.sentences import split_sentences
from data_prep.tasks import BATCH_CHARACTERS, batch_texts, tokenize_texts
from data_prep.tokenizer import wordpiece_tokenizer
from tests.unit.data_prep.test_tokenizer import LETTERS, TEXTS, VOCABULARY


def encoder() -> Encoder:
    return make_encoder(wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test"))


@given(st.lists(st.one_of(TEXTS, st.text(LETTERS + " .\n", max_size=40)), max_size=6))
@settings(max_examples=150)
def test_documents_are_those_of_a_loop_over_texts_and_sentences(texts: list[str]) -> None:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test")
    tokenizer.encode_special_tokens = True
    ids, sentences_per_document, lengths, tokens = [], [], [], []
    for text in map(clean_text, texts):
        rows = [tokenizer.encode(s, add_special_tokens=False).ids for s in split_sentences(text, "en")]
        rows = [row for row in rows if row]
        if rows:
            ids.append(document_id(text))
            sentences_per_document.append(len(rows))
            lengths += [len(row) for row in rows]
            tokens += [token for row in rows for token in row]
    documents, counts = tokenize_texts(texts, "en", encoder(), 0)
    assert [identifier.tobytes() for identifier in documents.ids] == ids
    assert documents.document_sentences.tolist() == sentences_per_document
    assert documents.sentence_lengths.tolist() == lengths
    assert documents.token_ids.tolist() == tokens
    assert (counts["documents"], counts["empty_documents"]) == (len(texts), len(texts) - len(ids))
    assert (counts["sentences"], counts["tokens"]) == (len(lengths), len(tokens))


def test_documents_that_tokenize_to_nothing_are_counted_as_empty() -> None:
    documents, counts = tokenize_texts(["", " \n\u200b", "\ue000", "a b."], "en", encoder(), 0)
    assert len(documents.ids) == 1
    assert counts["empty_documents"] == 3
    assert counts["empty_sentences"] == 1


def test_batches_hold_all_texts_in_order_and_are_bounded() -> None:
    texts = [(0, "x" * (BATCH_CHARACTERS // 3))] * 10 + [(0, "y"), (2, "z"), (1, "y")]
    batches = list(batch_texts(texts))
    assert [(source, text) for source, batch in batches for text in batch] == texts
    assert [len(batch) for _, batch in batches] == [4, 4, 3, 1, 1]
