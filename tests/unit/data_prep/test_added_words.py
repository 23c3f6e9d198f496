"""New words at the end of a vocabulary: old ids stay, words are matched whole, and bad files are named by line."""

import re
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from data_prep.__main__ import main
from data_prep.added_words import add_words
from data_prep.encoder import WordCacheEncoder, make_encoder
from data_prep.manifest import read_manifest
from data_prep.special_tokens import WORDPIECE
from data_prep.tokenizer import load_tokenizer, save_tokenizer, wordpiece_tokenizer
from tests.integration.prep_runs import KEYS, write_corpus

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*WORDPIECE, *LETTERS, *(f"##{letter}" for letter in LETTERS), "photo", "##s", ".", "river", "honey"]
VOCABULARY = list(dict.fromkeys(VOCABULARY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return tmp_path


def extended(folder: Path, text: str, *, lowercase: bool = True):
    (folder / "words.txt").write_text(text, encoding="utf-8")
    return add_words(load_tokenizer(folder / "vocab.txt", lowercase=lowercase), folder / "words.txt")


def test_new_words_follow_the_old_tokens_as_the_normalizer_writes_them(folder: Path) -> None:
    tokenizer, known = extended(folder, "Photovoltaik\n\nriver\r\nPerowskit\nphotovoltaik\n")
    assert tokenizer.get_vocab() == {token: number for number, token in enumerate(VOCABULARY)} | {
        "photovoltaik": len(VOCABULARY),
        "perowskit": len(VOCABULARY) + 1,
    }
    assert known == 2, "river, and the second spelling of a new word"


def test_a_new_word_is_matched_whole_and_as_the_beginning_of_a_longer_one_but_not_inside(folder: Path) -> None:
    tokenizer, _ = extended(folder, "volt\n")
    assert tokenizer.encode("Volt.", add_special_tokens=False).tokens == ["volt", "."]
    assert tokenizer.encode("volts", add_special_tokens=False).tokens == ["volt", "##s"]
    assert tokenizer.encode("photovolt", add_special_tokens=False).tokens == ["photo", "##v", "##o", "##l", "##t"]


def test_the_word_cache_gives_the_ids_of_tokenizers(folder: Path) -> None:
    tokenizer, _ = extended(folder, "volt\nhonigbiene\n")
    encoder = make_encoder(tokenizer)
    assert isinstance(encoder, WordCacheEncoder)
    texts = ["A honigbiene, a Volt; volts.", "photo volt honigbienes"]
    wanted = [number for text in texts for number in tokenizer.encode(text, add_special_tokens=False).ids]
    assert encoder.encode(texts).token_ids.tolist() == wanted


def test_transformers_reads_the_folder_with_the_same_ids(folder: Path) -> None:
    tokenizer, _ = extended(folder, "volt\n")
    save_tokenizer(tokenizer, folder / "saved")
    loaded = AutoTokenizer.from_pretrained(folder / "saved")
    assert loaded("photo volts")["input_ids"] == tokenizer.encode("photo volts").ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volt\nsolar cell\n", r"words\.txt, line 2: 'solar cell' is 2 words to the tokenizer \(solar cell\)"),
        ("volt\nco-op\n", r"line 2: 'co-op' is 3 words to the tokenizer \(co - op\)"),
        ("\u200b\n", r"line 1: .* is 0 words to the tokenizer \(nothing\)"),
        ("v" * 101, r"line 1: .* has 101 characters; longer than 100 are \[UNK\] anyway"),
        ("river\nhoney\n", r"holds no word that is not a token already; leave it out"),
        ("", r"holds no word that is not a token already"),
    ],
)
def test_what_is_no_new_word_is_named_by_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extended(folder, text)


def test_a_file_that_is_not_there_or_no_text_is_named(folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "vocab.txt", lowercase=True)
    with pytest.raises(ValueError, match=r"tokenizer\.add_words_file: \S+none\.txt.*name a file"):
        add_words(tokenizer, folder / "none.txt")
    (folder / "words.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"words\.txt is not UTF-8 text"):
        add_words(tokenizer, folder / "words.txt")


def test_added_tokens_behind_the_vocabulary_are_refused_rather_than_moved(folder: Path) -> None:
    tokenizer = wordpiece_tokenizer(VOCABULARY, lowercase=True, source="the test")
    tokenizer.add_tokens(["<domain>"])
    (folder / "words.txt").write_text("volt\n")
    with pytest.raises(ValueError, match="added tokens after its vocabulary"):
        add_words(tokenizer, folder / "words.txt")


def test_data_prep_makes_shards_with_the_new_words_and_knows_them_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "words.txt").write_text("quiet\nseven\nriver\n")
    corpus = write_corpus(folder / "corpus", num_files=1, documents=4)
    keys = [f"output_dir={folder / 'shards'}", f"corpus.paths=[{corpus}]", *KEYS]
    keys += [f"tokenizer.vocab_file={folder / 'vocab.txt'}", f"tokenizer.add_words_file={folder / 'words.txt'}"]
    assert main(keys) == 0
    assert "vocabulary: 2 new words from" in capsys.readouterr().out
    assert read_manifest(folder / "shards").tokenizer.vocab_size == len(VOCABULARY) + 2
    assert main(keys) == 0
    assert "nothing to do" in capsys.readouterr().out
    (folder / "words.txt").write_text("quiet\nseven\nbees\n")
    assert main(keys) == 2
    assert "has changed, or that of tokenizer.add_words_file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["tokenizer.add_words_file=words.txt"], r"tokenizer\.add_words_file='words\.txt'.*name the vocabulary"),
        (
            ["tokenizer.kind=byte_bpe", "tokenizer.vocab_file=v.json", "tokenizer.add_words_file=words.txt"],
            r"null with tokenizer\.kind=byte_bpe",
        ),
    ],
)
def test_words_need_a_wordpiece_vocabulary_to_extend(
    keys: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["output_dir=o", "corpus.paths=[c]", "corpus.format=text", *keys]) == 2
    assert re.search(message, capsys.readouterr().err)
