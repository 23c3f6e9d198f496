from pathlib import Path

import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, BertTokenizer

from data_prep.special_tokens import WORDPIECE
from data_prep.tokenizer import describe_tokenizer, load_tokenizer, save_tokenizer, wordpiece_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyzABC0123456789éß你好たん.,!?'-[]#"
PIECES = ["##ing", "##ed", "the", "The", "wal", "walk", "un", "##aff", "##able", "[unused1]"]
VOCABULARY = [*WORDPIECE, *LETTERS, *(f"##{letter}" for letter in LETTERS), *PIECES]
VOCABULARY = list(dict.fromkeys(VOCABULARY))
TEXTS = st.text(
    st.one_of(st.sampled_from(LETTERS + " \t\n"), st.characters(exclude_categories=["Cs"]), st.sampled_from(LETTERS))
)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tokenizer")
    (path / "given.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    save_tokenizer(load_tokenizer(path / "given.txt", lowercase=request.param), path)
    return path


def test_the_folder_loads_with_auto_tokenizer_and_pairs_look_like_berts(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, BertTokenizer)
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (0, 4, len(VOCABULARY))
    pair = tokenizer("a", "b")
    assert pair["input_ids"] == [2, VOCABULARY.index("a"), 3, VOCABULARY.index("b"), 3]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == VOCABULARY


def test_a_tokenizer_json_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    save_tokenizer(load_tokenizer(folder / "tokenizer.json", lowercase=False), tmp_path)
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_manifest_entry_describes_the_saved_file(folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "vocab.txt", lowercase=True)
    info = describe_tokenizer(tokenizer)
    assert (info.pad_id, info.unk_id, info.cls_id, info.sep_id, info.mask_id) == (0, 1, 2, 3, 4)
    assert info.vocab_size == len(VOCABULARY)


def json_with_a_hole() -> str:
    ids = {token: number for number, token in enumerate(WORDPIECE)} | {"late": len(WORDPIECE) + 1}
    return Tokenizer(models.WordPiece(ids, unk_token="[UNK]")).to_str()


def bpe_json() -> str:
    return Tokenizer(models.BPE()).to_str()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"vocab\.txt has no \[MASK\]: pretraining needs"),
        ("vocab.txt", "\n".join([*WORDPIECE, "a", "b", "a"]), r"vocab\.txt, line 6: 'a' occurs twice"),
        ("tokenizer.json", "{}", r"is no tokenizer\.json of .* a vocab\.json needs tokenizer\.kind=byte_bpe"),
        ("tokenizer.json", json_with_a_hole(), r"tokenizer\.json has no token of id 5, but ids up to 6"),
        ("tokenizer.json", bpe_json(), "holds a BPE model; tokenizer.kind=wordpiece needs WordPiece"),
    ],
)
def test_a_vocabulary_that_cannot_serve_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path / name, lowercase=True)


def test_a_missing_or_binary_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.txt does not exist"):
        load_tokenizer(tmp_path / "none.txt", lowercase=True)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_tokenizer(tmp_path / "vocab.txt", lowercase=True)


def test_a_vocabulary_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode())
    tokenizer = load_tokenizer(tmp_path / "vocab.txt", lowercase=True)
    assert tokenizer.get_vocab() == wordpiece_tokenizer(VOCABULARY, lowercase=True, source="here").get_vocab()
