from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from data_prep import byte_encoder, token_cache
from data_prep.byte_encoder import ByteEncoder
from data_prep.documents import clean_text
from data_prep.encoder import make_encoder
from data_prep.instances import encode_pairs
from data_prep.masking import MaskingRules, mask_instances, vocabulary_of
from data_prep.pairing.full_sentences import join_full_sentences
from data_prep.sentences import split_sentences
from data_prep.tasks import tokenize_texts
from data_prep.tokenizer import describe_tokenizer
from data_prep.vocabulary import train_byte_bpe
from tests.unit.data_prep.example_byte_bpe import STRINGS, TEXTS, byte_bpe


def own_tokenizer() -> Tokenizer:
    """Return a tokenizer that a test may change."""
    return Tokenizer.from_str(byte_bpe().to_str())


@pytest.fixture(scope="module")
def encoder() -> ByteEncoder:
    made = make_encoder(own_tokenizer())
    assert isinstance(made, ByteEncoder)
    assert made.pieces is not None
    return made


@given(sentences=st.lists(STRINGS, max_size=5))
@example(sentences=["a\n  b", "a   b ", "!\x1c?", "a\x1c b", " 'said ''s", "don't'll", "", " ", "\u3000 a"])
@example(sentences=["你好，世界。" * 9, "The walk", "你好 世界", "x" * 300])
@settings(max_examples=250)
def test_ids_and_word_starts_are_those_of_tokenizers(encoder: ByteEncoder, sentences: list[str]) -> None:
    oracle = own_tokenizer()
    oracle.encode_special_tokens = True
    wanted = [oracle.encode(sentence, add_special_tokens=False) for sentence in sentences]
    encoded = encoder.encode(sentences)
    assert encoded.lengths.tolist() == [len(one.ids) for one in wanted]
    assert encoded.token_ids.tolist() == [token for one in wanted for token in one.ids]
    starts = [word != one.word_ids[row - 1] or row == 0 for one in wanted for row, word in enumerate(one.word_ids)]
    assert encoded.word_starts.tolist() == starts


def test_the_pieces_part_where_the_pre_tokenizer_parts_around_every_character() -> None:
    part = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    for code in [*range(0x3100), 0xFEFF, 0x1F600, 0xE0020]:
        text = f"a{chr(code)}!{chr(code)}1 {chr(code)}{chr(code)} b"
        cut = [word for piece in byte_encoder._PIECES.findall(text) for word, _ in part(piece)]
        assert cut == [word for word, _ in part(text)], f"U+{code:04X}"


def test_the_words_of_known_characters_are_those_of_the_pre_tokenizer() -> None:
    part = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    known = [chr(code) for code in range(0x110000) if byte_encoder._KNOWN.fullmatch(chr(code))]
    assert len(known) == 128 + 398 + 9
    for character in known:
        piece = f" a{character}7{character}.{character}{character}s'{character}s"
        assert len(byte_encoder._words(piece)) == len(part(piece)), f"U+{ord(character):04X}"


@given(st.text(st.sampled_from(" \t\n\x1c'sStrelvmda1.,“”—éÀ"), max_size=30))
@settings(max_examples=300)
def test_words_are_cut_where_the_pre_tokenizer_cuts(piece: str) -> None:
    part = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    assert "".join(byte_encoder._words(piece)) == piece
    assert [word for cut in byte_encoder._words(piece) for word, _ in part(cut)] == [word for word, _ in part(piece)]
    assert len(byte_encoder._words(piece)) == len(part(piece))


def test_a_word_starts_with_its_space_after_punctuation_and_at_the_beginning(encoder: ByteEncoder) -> None:
    sentence = "Walkers say (unaffably) don't!"
    encoded = encoder.encode([sentence, "walking"])
    tokens = [encoder.tokenizer.id_to_token(token) for token in encoded.token_ids]
    words = "".join(("|" if start else "") + token for token, start in zip(tokens, encoded.word_starts, strict=True))
    assert words == "|Walkers|Ġsay|Ġ(|unaffably|)|Ġdon|'t|!|walking"


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.NFKC()),
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)),
        lambda tokenizer: tokenizer.add_tokens([AddedToken("he wal", normalized=False)]),
    ],
    ids=["normalizer", "prefix_space", "no_regex", "added_token"],
)
def test_a_tokenizer_with_rules_of_its_own_is_asked_for_every_sentence(change) -> None:  # type: ignore[no-untyped-def]
    tokenizer = own_tokenizer()
    change(tokenizer)
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, ByteEncoder)
    assert encoder.pieces is None
    sentences = ["The walkers walked ﬁne", "你好", ""]
    wanted = [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
    encoded = encoder.encode(sentences)
    assert encoded.token_ids.tolist() == [token for row in wanted for token in row]
    assert encoded.lengths.tolist() == list(map(len, wanted))


def test_a_full_cache_is_emptied_and_the_ids_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MAX_CACHE_BYTES", 2000)
    encoder = ByteEncoder(own_tokenizer())
    assert encoder.pieces is not None
    rng = np.random.default_rng(0)
    for _ in range(30):
        sentence = " ".join("".join(rng.choice(list("walking"), 4)) for _ in range(6))
        assert encoder.encode([sentence]).token_ids.tolist() == encoder.tokenizer.encode(sentence).ids[1:-1]
        assert max(encoder.pieces.bytes, encoder.words.bytes) < 2000 + 7 * 300


def decode(token_ids) -> str:  # type: ignore[no-untyped-def]
    text: str = byte_bpe().decode(token_ids.tolist(), skip_special_tokens=False)
    return text


@given(
    st.text(st.one_of(st.characters(), st.sampled_from(list(".!?。！ \n\"'(A1"))), max_size=80),
    st.sampled_from(["en", "zh"]),
)
@settings(max_examples=200)
def test_the_tokens_of_a_document_are_its_text_with_single_spaces(text: str, language: str) -> None:
    documents, _ = tokenize_texts([text], language, make_encoder(own_tokenizer()), 0)
    assert decode(documents.token_ids) == " ".join(clean_text(text).split())


def test_sentences_get_the_space_that_stands_before_them_and_only_that(encoder: ByteEncoder) -> None:
    text = "The walk. The walkers!\nThe\nwalk.\n\nThey say.你好。你好。"
    documents, _ = tokenize_texts([text], "zh", encoder, 0)
    stops = np.cumsum(documents.sentence_lengths)
    sentences = map(decode, np.split(documents.token_ids, stops[:-1]))
    assert list(sentences) == ["The walk.", " The walkers!", " The walk.", " They say.", "你好。", "你好。"]


def test_real_text_of_two_languages_comes_back_and_has_the_ids_of_tokenizers(shared_data: Path) -> None:
    corpora = {"en": "en_mlperf_wiki_dev", "zh": "zh_classic_novels"}
    files = {language: shared_data / "corpora" / name / "docs.jsonl" for language, name in corpora.items()}
    texts = {language: clean_text(path.read_text(encoding="utf-8")[:60_000]) for language, path in files.items()}
    tokenizer = train_byte_bpe(list(texts.values()), vocab_size=2000, on_read=lambda characters: None)
    encoder = make_encoder(tokenizer)
    for language, text in texts.items():
        documents, counts = tokenize_texts([text], language, encoder, 0)
        assert counts["empty_sentences"] == 0
        assert tokenizer.decode(documents.token_ids.tolist()) == " ".join(text.split())
        sentences = [f" {sentence}".replace("\n", " ") for sentence in split_sentences(text, language)]
        wanted = [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
        assert encoder.encode(sentences).token_ids.tolist() == [token for row in wanted for token in row]


@pytest.mark.parametrize("rules", [{"whole_word": True, "max_ngram": 1}, {"whole_word": True, "max_ngram": 3},
                                   {"whole_word": False, "max_ngram": 1}])  # fmt: skip
def test_masks_hide_words_as_parted_and_never_a_special_token(encoder: ByteEncoder, rules: dict[str, int]) -> None:
    documents, _ = tokenize_texts([f"{text} {text} {text}" for text in TEXTS], "en", encoder, 0)
    info = describe_tokenizer(encoder.tokenizer)
    pairs, _ = join_full_sentences(documents, max_seq_length=128)
    instances = encode_pairs(documents, pairs, info)
    random_words = np.random.default_rng(0).integers(0, 2**64, (len(instances.input_ids), 2), dtype=np.uint64)
    masking = MaskingRules(
        vocabulary=vocabulary_of(info),
        masked_lm_prob=0.3,
        max_predictions_per_seq=50,
        **rules,  # type: ignore[arg-type]
    )
    masked = mask_instances(
        instances.input_ids, instances.lengths, masking, random_words=random_words, word_starts=instances.word_starts
    )
    firsts = np.cumsum(instances.lengths) - instances.lengths
    at = np.repeat(firsts, masked.counts) + masked.positions
    special = {0, 1, 2, 3, 319}
    assert set(vocabulary_of(info).special_ids) == special
    assert masked.counts.sum() > 500
    assert not special & set(masked.ids.tolist())
    seen = masked.input_ids[at]
    assert 0.75 < np.mean(seen == 319) < 0.85
    assert set(seen.tolist()) & special == {319}
    replaced = seen[(seen != 319) & (seen != masked.ids)]
    assert replaced.max() > 300, "drawn from the whole vocabulary"
    if rules["whole_word"]:
        is_masked = np.zeros(len(instances.input_ids), dtype=bool)
        is_masked[at] = True
        inside = ~instances.word_starts
        assert (is_masked[1:][inside[1:]] == is_masked[:-1][inside[1:]]).all(), "a word is masked whole or not at all"


def test_full_sentences_are_one_s_and_one_separator_for_each_document_end(encoder: ByteEncoder) -> None:
    documents, _ = tokenize_texts(["The walk. The walkers.", "They say."], "en", encoder, 0)
    pairs, _ = join_full_sentences(documents, max_seq_length=64)
    instances = encode_pairs(documents, pairs, describe_tokenizer(encoder.tokenizer))
    assert decode(instances.input_ids) == "<s>The walk. The walkers.</s>They say.</s>"
