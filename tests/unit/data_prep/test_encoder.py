from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import BertTokenizer

from data_prep import encoder as encoder_module
from data_prep import token_cache
from data_prep.config import WordSegmenter
from data_prep.encoder import PlainEncoder, WordCacheEncoder, encoder_of, make_encoder
from data_prep.tokenizer import load_tokenizer, wordpiece_tokenizer
from tests.unit.data_prep.test_tokenizer import LETTERS, TEXTS, VOCABULARY

# What parts words, or could seem to: white space and controls, marks after marks, Chinese characters of several ranges,
# full-width and compatibility forms, emoji with modifiers, final sigma, dotless i.
TRAPS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\0\u200b\u200d\ufeff\ufffd\xad"
    "\u0301\u0323\u0308\u20dd中㐀\uf900\U00020000\U0002f800，。！Ａ１ａΣςİıß가각ｶﾞ👩🏽👍"
)
STRINGS = st.one_of(TEXTS, st.text(st.sampled_from(TRAPS + LETTERS + "  "), max_size=40), st.text(max_size=20))


@lru_cache
def tokenizers(lowercase: bool) -> tuple[Tokenizer, WordCacheEncoder, BertTokenizer]:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=lowercase, source="test")
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, WordCacheEncoder)
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    return tokenizer, encoder, BertTokenizer(vocab=ids, do_lower_case=lowercase)


@pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
@given(sentences=st.lists(STRINGS, max_size=4))
@example(sentences=["Unaffable [MASK] WALKED", "你好 a\u0301\u0301 #1", "x" * 300, "", "\u200b", " \n "])
@example(sentences=["a\x0bb", "a\x1cb", "中\u0301\u0323", "\u0323\u0301 \u0323", "ΣΑΣ Σ."])
@settings(max_examples=200)
def test_ids_are_those_of_transformers_bert_tokenizer(lowercase: bool, sentences: list[str]) -> None:
    _, encoder, oracle = tokenizers(lowercase)
    encoded = encoder.encode(sentences)
    wanted = [oracle(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in sentences]
    assert encoded.lengths.tolist() == [len(row) for row in wanted]
    assert encoded.token_ids.tolist() == [token for row in wanted for token in row]


def test_the_chinese_characters_are_those_that_the_normalizer_parts() -> None:
    parted = normalizers.BertNormalizer(clean_text=False, strip_accents=False, lowercase=False).normalize_str
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    wrong = [
        f"{ord(character):x}"
        for character in characters
        if (parted(character) != character) != bool(encoder_module._CHINESE_CHARACTER.match(character))
    ]
    assert wrong == []


@pytest.mark.parametrize("parts_chinese", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
@given(sentences=st.lists(STRINGS, max_size=4))
@settings(max_examples=200)
def test_ids_are_those_of_tokenizers_under_other_rules_of_its_bert_normalizer(
    parts_chinese: bool, strip_accents: bool, sentences: list[str]
) -> None:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test")
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=parts_chinese, strip_accents=strip_accents)
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, WordCacheEncoder)
    wanted = PlainEncoder(tokenizer).encode(sentences)
    found = encoder.encode(sentences)
    assert found.token_ids.tolist() == wanted.token_ids.tolist()
    assert found.lengths.tolist() == wanted.lengths.tolist()


@given(text=STRINGS)
@settings(max_examples=200)
def test_word_starts_are_those_of_the_pre_tokenizer(text: str) -> None:
    tokenizer, encoder, _ = tokenizers(True)
    words = tokenizer.encode(text, add_special_tokens=False).word_ids
    wanted = [number == 0 or word != words[number - 1] for number, word in enumerate(words)]
    assert encoder.encode([text]).word_starts.tolist() == wanted


@pytest.mark.parametrize("name", ["uncased", "chinese"])
def test_published_vocabularies_give_the_ids_of_transformers_on_real_text(shared_data: Path, name: str) -> None:
    path = shared_data / "reference" / "vocab" / f"bert-base-{name}-vocab.txt"
    corpora = [
        shared_data / "corpora" / folder / "docs.jsonl" for folder in ("en_mlperf_wiki_dev", "zh_classic_novels")
    ]
    lines = [line for corpus in corpora for line in corpus.read_text(encoding="utf-8").splitlines()[:8]]
    sentences = [line[start : start + 500] for line in lines for start in range(0, min(len(line), 20_000), 500)]
    oracle = BertTokenizer(vocab=str(path), do_lower_case=True)
    wanted = oracle(sentences, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    encoded = make_encoder(load_tokenizer(path, lowercase=True)).encode(sentences)
    assert encoded.lengths.tolist() == [len(row) for row in wanted]
    assert encoded.token_ids.tolist() == [token for row in wanted for token in row]


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.NFKC()),
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
        lambda tokenizer: tokenizer.add_tokens([AddedToken("a b", normalized=False)]),
    ],
    ids=["normalizer", "pre_tokenizer", "added_token"],
)
def test_a_tokenizer_with_rules_of_its_own_is_asked_for_every_sentence(change) -> None:  # type: ignore[no-untyped-def]
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test")
    change(tokenizer)
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, PlainEncoder)
    sentence = "a b , walked ﬁ ."
    assert encoder.encode([sentence]).token_ids.tolist() == tokenizer.encode(sentence, add_special_tokens=False).ids


def test_a_full_cache_is_emptied_and_the_ids_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test")
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, WordCacheEncoder)
    monkeypatch.setattr(token_cache, "MAX_CACHE_BYTES", 2000)
    rng = np.random.default_rng(0)
    largest = 0
    for _ in range(50):
        sentences = [" ".join("".join(rng.choice(list("abcde"), 4)) for _ in range(6))]
        wanted = PlainEncoder(tokenizer).encode(sentences)
        np.testing.assert_array_equal(encoder.encode(sentences).token_ids, wanted.token_ids)
        largest = max(largest, encoder.pieces.bytes, encoder.words.bytes)
    assert largest < 2000 + 7 * 300


def test_tasks_of_one_process_share_the_encoder_of_a_tokenizer_and_no_other() -> None:
    cased = wordpiece_tokenizer(VOCABULARY, lowercase=False, source="test").to_str()
    uncased = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test").to_str()
    assert encoder_of(cased, None) is encoder_of(cased, None)
    assert (
        encoder_of(cased, None).encode(["The"]).token_ids.tolist()
        != encoder_of(uncased, None).encode(["The"]).token_ids.tolist()
    )


def test_no_sentences_give_no_tokens() -> None:
    _, encoder, _ = tokenizers(True)
    encoded = encoder.encode([])
    assert len(encoded.token_ids) == len(encoded.lengths) == len(encoded.word_starts) == 0


CHINESE = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "我",
    "来",
    "到",
    "北",
    "京",
    "清",
    "华",
    "大",
    "学",
    "。",
    "bert",
    "##s",
    "3",
]


def test_with_jieba_a_word_of_several_characters_begins_once_and_ids_stay_the_same() -> None:
    pytest.importorskip("jieba", reason="jieba is not installed (the extra `chinese`)")
    tokenizer = wordpiece_tokenizer(CHINESE, lowercase=True, source="test")
    sentences = ["我来到北京清华大学。", "", "berts 北京berts3。\u0301"]
    plain, encoded = (make_encoder(tokenizer, chosen).encode(sentences) for chosen in (None, WordSegmenter.jieba))
    assert encoded.token_ids.tolist() == plain.token_ids.tolist()
    assert encoded.lengths.tolist() == plain.lengths.tolist()
    tokens = [CHINESE[token] for token in encoded.token_ids]
    marked = "".join(("|" if start else "") + token for token, start in zip(tokens, encoded.word_starts, strict=True))
    assert marked.startswith("|我|来到|北京|清华大学|。|bert##s|北京|")
    assert all(plain.word_starts[row] == (token != "##s") for row, token in enumerate(tokens))


@given(sentences=st.lists(STRINGS, max_size=3))
@settings(max_examples=100)
def test_segmented_words_are_unions_of_the_tokenizers_words(sentences: list[str]) -> None:
    pytest.importorskip("jieba", reason="jieba is not installed (the extra `chinese`)")
    tokenizer, encoder, _ = tokenizers(True)
    plain, encoded = encoder.encode(sentences), make_encoder(tokenizer, WordSegmenter.jieba).encode(sentences)
    assert encoded.token_ids.tolist() == plain.token_ids.tolist()
    assert not np.any(encoded.word_starts & ~plain.word_starts)
    firsts = (np.cumsum(encoded.lengths) - encoded.lengths)[encoded.lengths > 0]
    assert encoded.word_starts[firsts].all()


def test_a_word_segmenter_is_refused_beside_rules_of_ones_own() -> None:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="test")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(ValueError, match=r"sentences\.word_segmenter=.*BERT's rules"):
        make_encoder(tokenizer, WordSegmenter.jieba)
