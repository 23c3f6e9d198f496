import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit
from transformers import AlbertTokenizer, AutoTokenizer

from data_prep.config import TokenizerKind
from data_prep.encoder import Encoder, make_encoder
from data_prep.tokenizer import describe_tokenizer, load_tokenizer, save_tokenizer
from data_prep.unigram_encoder import _is_letters
from tests.unit.data_prep.example_unigram import SPECIAL, STRINGS, VOCABULARY, published, unigram
from tests.unit.data_prep.test_tokenizer import bpe_json


def load(path: Path) -> Tokenizer:
    return load_tokenizer(path, lowercase=False, kind=TokenizerKind.unigram)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    unigram().save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@lru_cache
def encoders(lowercase: bool) -> tuple[Encoder, AlbertTokenizer]:
    return make_encoder(unigram(lowercase=lowercase)), published(lowercase=lowercase)


def words(text: str) -> list[str]:
    """Return the words of a text as masks of whole words take them."""
    encoded = encoders(True)[0].encode([text])
    pieces = [VOCABULARY[token][0] for token in encoded.token_ids]
    starts = np.flatnonzero(encoded.word_starts).tolist()
    return ["".join(pieces[start:stop]) for start, stop in zip(starts, [*starts[1:], len(pieces)], strict=True)]


@pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
@given(text=STRINGS)
@example(text="[SEP] in [MASK] text")
@settings(max_examples=300)
def test_ids_are_those_of_transformers_albert_tokenizer(lowercase: bool, text: str) -> None:
    encoder, oracle = encoders(lowercase)
    wanted = oracle(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    encoded = encoder.encode([text, "the ship"])
    special = [SPECIAL.index(token) for token in ("[CLS]", "[SEP]", "[MASK]")]
    if not set(special) & set(wanted):  # of a cased vocabulary, text that spells them
        assert encoded.token_ids.tolist() == [*wanted, *encoder.encode(["the ship"]).token_ids.tolist()]
        assert encoded.lengths[0] == len(wanted)
    assert not set(special) & set(encoded.token_ids.tolist())


@pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("token", SPECIAL)
def test_text_that_spells_a_special_token_is_text(token: str, lowercase: bool) -> None:
    encoder, _ = encoders(lowercase)
    ids = encoder.encode([f"a {token} b"]).token_ids.tolist()
    assert len(ids) > 4
    assert not {0, 2, 3, 4} & set(ids)
    if lowercase:
        written = "".join(VOCABULARY[number][0] for number in ids)
        assert written.replace("▁", " ") == f" a {token.lower()} b"


def test_words_begin_at_spaces_and_at_whatever_is_no_letter() -> None:
    assert words("The walkers’ ships, unaffable") == ["▁the", "▁walkers", "<unk>", "▁ships", ",", "▁unaffable"]
    assert words("walking--1998 (ships)") == ["▁walking", "--", "19", "98", "▁(", "ships", ")"]
    assert words("世 (a1b) Öl миры") == ["▁<unk>", "▁(", "a", "1", "b", ")", "▁ol", "▁миры"]
    assert words("你好 the 你the") == ["▁你", "好", "▁the", "▁你", "the"]


def test_what_was_saved_comes_back_as_it_was_and_transformers_reads_the_same_ids(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "vocab.txt").write_text("left by an interrupted run of another kind")
    save_tokenizer(load(file), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert load(folder / "tokenizer.json").to_str() == load(file).to_str()
    theirs = AutoTokenizer.from_pretrained(folder)
    pair = theirs("the <mask [MASK]", "ships")
    assert pair["input_ids"] == published()("the <mask [MASK]", "ships")["input_ids"]
    assert pair["token_type_ids"] == [0] * (len(pair["input_ids"]) - 3) + [1, 1, 1]
    assert (theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id, theirs.pad_token_id) == (2, 3, 4, 0)
    assert theirs.unk_token_id == 1
    told = describe_tokenizer(load(file))
    assert (told.vocab_size, told.pad_id, told.unk_id) == (len(VOCABULARY), 0, 1)
    assert (told.cls_id, told.sep_id, told.mask_id) == (2, 3, 4)


def changed(change: Callable[[dict[str, Any]], Any]) -> str:
    values = json.loads(unigram().to_str())
    change(values)
    return json.dumps(values)


def without_mask(values: dict[str, Any]) -> None:
    values["model"]["vocab"][4] = ["mask", 0.0]
    values["added_tokens"].pop()


def pre_tokenizer(*parts: Any) -> str:
    """Return a tokenizer whose text is parted so."""
    tokenizer = unigram()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(parts))
    return str(tokenizer.to_str())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "tokenizer.json",
            None,
            r"tokenizer\.json does not exist; name a tokenizer\.json, which",
        ),
        ("spiece.model", "\n\x0e\n\x05<unk>", r"spiece\.model is no tokenizer\.json .*; name a tokenizer\.json, which"),
        ("tokenizer.json", bpe_json(), "holds a BPE model; tokenizer.kind=unigram needs Unigram; say .*=byte_bpe"),
        (
            "tokenizer.json",
            changed(without_mask),
            r"has no \[MASK\]: pretraining needs <pad>, <unk>, ",
        ),
        (
            "tokenizer.json",
            changed(lambda values: values["model"].update(unk_id=None)),
            "makes unknown characters the token of id None, and <unk> is 1; set model.unk_id there to 1",
        ),
        (
            "tokenizer.json",
            changed(lambda values: values["model"].update(unk_id=4)),
            "of id 4, and <unk> is 1",
        ),
        ("tokenizer.json", changed(lambda values: values["model"].update(byte_fallback=True)), "has byte_fallback"),
        (
            "tokenizer.json",
            changed(lambda values: values["model"]["vocab"].append(["▁the", -9.0])),
            "has the piece '▁the' 2 times; keep one of them",
        ),
        (
            "tokenizer.json",
            changed(lambda values: values.update(pre_tokenizer=None)),
            "not part text at every word",
        ),
        ("tokenizer.json", pre_tokenizer(Metaspace(prepend_scheme="first")), "does not part text .* such as ALBERT's"),
        ("tokenizer.json", pre_tokenizer(Metaspace(replacement="_")), "does not part text at every word"),
        ("tokenizer.json", pre_tokenizer(Metaspace(split=False)), "does not part text at every word"),
    ],
)
def test_what_is_no_such_tokenizer_is_refused_by_name(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(tmp_path / name)


def test_a_unigram_tokenizer_given_as_wordpiece_is_told_its_kind(file: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a Unigram model; .* needs WordPiece; say tokenizer\.kind=unigram"):
        load_tokenizer(file, lowercase=False)


def test_pre_tokenizers_that_come_to_the_same_are_taken_the_older_form_too(tmp_path: Path) -> None:
    older = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    forms = [
        pre_tokenizer(Metaspace()),
        pre_tokenizer(WhitespaceSplit(), Metaspace(split=False)),
        changed(lambda values: values["pre_tokenizer"]["pretokenizers"].__setitem__(1, older)),
        changed(lambda values: values.update(pre_tokenizer=older)),
    ]
    wanted = make_encoder(unigram()).encode(["the ships walked"]).token_ids.tolist()
    for form in forms:
        (tmp_path / "tokenizer.json").write_text(form, encoding="utf-8")
        encoder = make_encoder(load(tmp_path / "tokenizer.json"))
        assert encoder.encode(["the ships walked"]).token_ids.tolist() == wanted


def test_added_tokens_keep_their_ids_and_special_ones_are_text_where_text_spells_them() -> None:
    tokenizer = unigram()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer.add_tokens(["volt"])
    last = len(VOCABULARY)
    assert (tokenizer.token_to_id("</s>"), tokenizer.token_to_id("volt")) == (last, last + 1)
    encoder = make_encoder(tokenizer)
    assert encoder.vocab_size == last + 2
    ids = encoder.encode(["the volt </s>"]).token_ids.tolist()
    assert ids[:2] == [VOCABULARY.index(next(one for one in VOCABULARY if one[0] == "▁the")), last + 1]
    assert last not in ids


def test_letters_with_marks_are_words_in_scripts_with_spaces_only() -> None:
    letters = ["ström", "ы", "हिन्", "दी", "한국", "مُحَ", "e\u0301"]
    others = ["", "你好", "ｶ", "カ", "ไทย", "ខ្មែរ", "'s", "1", "a1"]
    assert [piece for piece in [*letters, *others] if _is_letters(piece)] == letters
