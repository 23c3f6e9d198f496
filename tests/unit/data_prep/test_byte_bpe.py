import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, RobertaTokenizer

from data_prep.byte_bpe import byte_bpe_tokenizer
from data_prep.config import TokenizerKind
from data_prep.special_tokens import BYTE_BPE
from data_prep.tokenizer import describe_tokenizer, load_tokenizer, save_tokenizer
from data_prep.vocabulary import train_byte_bpe
from tests.unit.data_prep.example_byte_bpe import STRINGS, TEXTS, byte_bpe

TRAIN_AND_PRINT = """
from tests.unit.data_prep.example_byte_bpe import byte_bpe
print(byte_bpe().to_str())
"""


def load(path: Path) -> Tokenizer:
    return load_tokenizer(path, lowercase=False, kind=TokenizerKind.byte_bpe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(byte_bpe(), path)
    return path


def test_every_process_trains_the_same_vocabulary() -> None:
    # tokenizers seeds its hash maps per process, and its threads may end in any order.
    environments = [{"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed} for seed in ("1", "4")]
    runs = [
        subprocess.run(
            [sys.executable, "-c", TRAIN_AND_PRINT], capture_output=True, text=True, check=True, env=os.environ | more
        ).stdout
        for more in environments
    ]
    assert runs[0] == runs[1] == byte_bpe().to_str() + "\n"


def test_ids_of_special_tokens_are_robertas_and_every_byte_has_a_token() -> None:
    vocabulary = byte_bpe().get_vocab()
    assert [vocabulary[token] for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert vocabulary["<mask>"] == len(vocabulary) - 1 == 319
    assert {vocabulary[letter] for letter in pre_tokenizers.ByteLevel.alphabet()} == set(range(4, 260))
    assert "Ġwalk" in vocabulary
    assert not [token for token in vocabulary if "Ċ" in token and token != "Ċ"], "lines are joined by spaces"


def test_a_pair_seen_once_is_not_merged_and_the_size_is_an_upper_bound() -> None:
    assert train_byte_bpe(["abcd efgh"], vocab_size=300, on_read=lambda characters: None).get_vocab_size() == 261
    assert train_byte_bpe(TEXTS, vocab_size=261, on_read=lambda characters: None).get_vocab_size() == 261
    with pytest.raises(ValueError, match="no text to train a vocabulary"):
        train_byte_bpe([" ", ""], vocab_size=300, on_read=lambda characters: None)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_what_was_saved_comes_back_as_it_was(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "vocab.txt").write_text("left by an interrupted run of another kind")
    save_tokenizer(load(folder / name), tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
    assert describe_tokenizer(load(folder / name)) == describe_tokenizer(byte_bpe())


def test_the_older_names_of_robertas_files_are_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "roberta-base-vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    merges = (folder / "merges.txt").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "roberta-base-merges.txt").write_bytes(merges)
    assert load(tmp_path / "roberta-base-vocab.json").to_str() == byte_bpe().to_str()


@pytest.mark.parametrize(
    "without", [[], ["tokenizer.json"], ["vocab.json", "merges.txt"]], ids=["all", "files", "json"]
)
@given(text=STRINGS)
@example(text="Walk the <mask> or  <mask>, <s>not</s>")
@settings(max_examples=60)
def test_transformers_loads_a_roberta_tokenizer_with_the_same_ids(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, without: list[str], text: str
) -> None:
    tokenizer = transformers_tokenizer(folder, tmp_path_factory, tuple(without))
    assert tokenizer(text)["input_ids"] == byte_bpe().encode(text).ids


def test_transformers_pads_and_pairs_as_roberta(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, RobertaTokenizer)
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (1, 319, 320)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    pair = tokenizer("a", "b")
    ids = byte_bpe().get_vocab()
    assert pair["input_ids"] == [0, ids["a"], 2, 2, ids["b"], 2]
    assert "token_type_ids" not in pair
    assert tokenizer("a <mask>")["input_ids"] == [0, ids["a"], 319, 2], "the space belongs to the word that is hidden"


_LOADED: dict[tuple[str, ...], RobertaTokenizer] = {}


def transformers_tokenizer(folder: Path, factory: pytest.TempPathFactory, without: tuple[str, ...]) -> RobertaTokenizer:
    """Return what AutoTokenizer makes of the folder without some of its files."""
    if without not in _LOADED:
        copy = factory.mktemp("copy")
        for path in folder.iterdir():
            if path.name not in without:
                (copy / path.name).write_bytes(path.read_bytes())
        _LOADED[without] = AutoTokenizer.from_pretrained(copy)
        assert isinstance(_LOADED[without], RobertaTokenizer)
    return _LOADED[without]


def test_other_rules_of_a_tokenizer_json_are_saved_as_they_are(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(byte_bpe().to_str())
    tokenizer.normalizer = normalizers.NFKC()
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("ﬁne Ａ", add_special_tokens=False)["input_ids"] == tokenizer.encode("fine A").ids[1:-1]
    tokenizer = Tokenizer.from_str(byte_bpe().to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, RobertaTokenizer)
    assert loaded("walk")["input_ids"] == tokenizer.encode("walk").ids == byte_bpe().encode(" walk").ids


def test_special_tokens_that_only_a_tokenizer_json_numbers_keep_their_ids(tmp_path: Path) -> None:
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate([*BYTE_BPE[2:4], *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<mask>", "<unk>", "<pad>"])  # not the order in which transformers adds them
    tokenizer.save(str(tmp_path / "given.json"))
    save_tokenizer(load(tmp_path / "given.json"), tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (loaded.cls_token_id, loaded.mask_token_id, loaded.unk_token_id, loaded.pad_token_id) == (0, 258, 259, 260)
    assert loaded("a <mask>", add_special_tokens=False)["input_ids"][-1] == 258


def vocabulary_json(**changes: int | None) -> str:
    vocabulary = {**byte_bpe().get_vocab(), **changes}
    return json.dumps({token: number for token, number in vocabulary.items() if number is not None})


def tokenizer_json(change) -> str:  # type: ignore[no-untyped-def]
    tokenizer = Tokenizer.from_str(byte_bpe().to_str())
    change(tokenizer)
    return tokenizer.to_str()


def set_dropout(tokenizer: Tokenizer) -> None:
    tokenizer.model.dropout = 0.1


def set_metaspace(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", vocabulary_json(**{"<mask>": None}), r"vocab\.json has no <mask>: pretraining needs <pad>, "),
        ("vocab.json", vocabulary_json(late=321), r"vocab\.json has no token of id 320, but ids up to 321"),
        ("vocab.json", vocabulary_json(twice=319), r"has no token of id 320, but ids up to 319"),
        ("vocab.json", '["a"]', r"vocab\.json is no vocab\.json: it must be an object of token: id"),
        ("vocab.json", '{"a": "1"}', r"vocab\.json is no vocab\.json: it must be"),
        ("vocab.txt", "[PAD]\n[UNK]\n", r"vocab\.txt is no JSON: .*; name a vocab\.json"),
        ("tokenizer.json", Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).to_str(),
         "holds a WordPiece model; tokenizer.kind=byte_bpe needs BPE"),
        ("tokenizer.json", tokenizer_json(set_metaspace), r"a BPE over characters .*needs one over bytes"),
        ("tokenizer.json", tokenizer_json(set_dropout), r"has dropout=0\.1: a text would get other tokens each time"),
        ("tokenizer.json", '{"model": {}}', r"tokenizer\.json is no tokenizer\.json of this library"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_cannot_serve_is_refused(
    folder: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "merges.txt").write_bytes((folder / "merges.txt").read_bytes())
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)


def test_a_vocabulary_without_every_byte_is_refused(folder: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["other"] = vocabulary.pop("Ń")
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match=r"lacks 1 of the 256 bytes, first the one written 'Ń'"):
        load(tmp_path / "vocab.json")


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (None, r"vocab\.json needs its merges beside it, merges\.txt"),
        ("#version: 0.2\nx y\n", r"merges\.txt, line 2: 'x y' merges two tokens .* has no 'xy'"),
        ("w al\nwalk\n", r"merges\.txt, line 2: 'walk' merges two tokens .* has no ''"),
        ("w a l\n", r"merges\.txt, line 1: 'w a l' merges two tokens .* has no 'a l'"),
    ],
)
def test_merges_of_another_tokenizer_are_refused_with_their_line(
    folder: Path, tmp_path: Path, merges: str | None, message: str
) -> None:
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    if merges is not None:
        (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "vocab.json")


def test_files_of_the_other_kind_are_refused_with_the_key_to_set(folder: Path, tmp_path: Path) -> None:
    for name, message in (("vocab.json", "needs tokenizer.kind=byte_bpe"), ("tokenizer.json", "holds a BPE model")):
        with pytest.raises(ValueError, match=message):
            load_tokenizer(folder / name, lowercase=True)
    with pytest.raises(ValueError, match=r"none\.json does not exist; name a vocab\.json or a tokenizer\.json"):
        load(tmp_path / "none.json")


def test_robertas_own_rules_are_those_of_transformers() -> None:
    vocabulary, model = byte_bpe().get_vocab(), json.loads(byte_bpe().to_str())["model"]
    theirs = RobertaTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]]).backend_tokenizer
    ours = byte_bpe_tokenizer(vocabulary, [(a, b) for a, b in model["merges"]], source="the test")
    for part in ("pre_tokenizer", "decoder", "post_processor", "normalizer"):
        assert json.loads(ours.to_str())[part] == json.loads(theirs.to_str())[part]
    assert isinstance(ours.decoder, decoders.ByteLevel)
    assert set(BYTE_BPE) == {token.content for token in ours.get_added_tokens_decoder().values()}
