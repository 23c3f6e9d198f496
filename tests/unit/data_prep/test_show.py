from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.block_checks import original_ids
from data_prep.config import PairKind
from data_prep.instance_text import render_instance
from data_prep.shard_format import Block
from data_prep.shard_reader import read_block, read_index
from data_prep.show import main, parse_place
from tests.unit.data_prep.example_documents import prose_like_documents
from tests.unit.data_prep.example_shards import VOCABULARY, build, finish_directory

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "play", "##ing", "##s", "sat", "dog"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    overrides = ["shards.shard_bytes=15000"]
    shards = build(prose_like_documents(12), directory, *overrides).shards
    held_out = build(prose_like_documents(2, seed=9), directory, *overrides, split="held_out").shards
    finish_directory(directory, {"train": shards, "held_out": held_out}, *overrides)
    return directory


def one_instance(label: int | None = 0) -> Block:
    # [CLS] the cat play ##ing [SEP] dog sat ##s [SEP], with "cat" masked, "##s" replaced and "sat" kept.
    return Block(
        input_ids=np.array([2, 5, 4, 7, 8, 3, 11, 10, 8, 3]),
        instance_lengths=np.array([10]),
        segment_a_lengths=np.array([6]),
        sequence_instances=np.array([1]),
        masked_lm_counts=np.array([3]),
        masked_lm_positions=np.array([2, 7, 8]),
        masked_lm_ids=np.array([6, 10, 9]),
        next_sentence_labels=None if label is None else np.array([label]),
    )


def test_masks_read_as_seen_and_wanted() -> None:
    assert render_instance(one_instance(), 0, WORDS.__getitem__, PairKind.nsp).splitlines() == [
        "10 tokens, 3 masked, label 0 (B follows A)",
        "  A  [CLS] the [MASK]{cat} playing [SEP]",
        "  B  dog sat{sat} ##ing{##s} [SEP]",
    ]


@pytest.mark.parametrize(
    ("kind", "label", "words"),
    [
        (PairKind.nsp, 0, "label 0 (B follows A)"),
        (PairKind.nsp, 1, "label 1 (random B)"),
        (PairKind.sop, 0, "label 0 (in order)"),
        (PairKind.sop, 1, "label 1 (swapped)"),
        (PairKind.sop, 2, "label 2 (no valid label)"),
    ],
)
def test_the_label_is_in_words(kind: PairKind, label: int, words: str) -> None:
    assert words in render_instance(one_instance(label), 0, WORDS.__getitem__, kind)


def test_full_sentences_are_one_segment_without_a_label() -> None:
    block = replace(one_instance(None), segment_a_lengths=np.array([10]))
    assert render_instance(block, 0, WORDS.__getitem__, PairKind.none).splitlines() == [
        "10 tokens, 3 masked",
        "  A  [CLS] the [MASK]{cat} playing [SEP] dog sat{sat} ##ing{##s} [SEP]",
    ]


@pytest.mark.parametrize("kind", ["sop", "none"])
def test_the_kind_is_that_of_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    override = f"pairs.kind={kind}"
    finish_directory(tmp_path, {"train": build(prose_like_documents(12), tmp_path, override).shards}, override)
    assert main([str(tmp_path), "--instances", "16"]) == 0
    text = capsys.readouterr().out
    assert ("(swapped)" in text, "(in order)" in text, "  B  " in text) == (kind == "sop",) * 3


def test_an_unknown_id_is_shown_as_a_number() -> None:
    text = render_instance(one_instance(), 0, lambda token: None if token == 11 else WORDS[token], PairKind.nsp)
    assert "<id 11>" in text


def test_the_text_holds_the_very_tokens_of_the_place(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = finished / "train-000-00000-001.tar"
    with tar.open("rb") as file:
        _, block = read_block(file, read_index(tar)[1])
    row = block.take(np.array([3]))
    assert main([str(finished), "--instances", "1", "--at", "train-000-00000-001:1:3"]) == 0
    text = capsys.readouterr().out
    shown = text.partition("train-000-00000-001:1:3")[2].partition("\n")[2].split()
    wanted = [piece.partition("{")[2].rstrip("}") if "{" in piece else piece for piece in shown if piece not in "AB"]
    expected = "".join(VOCABULARY[token] for token in original_ids(row))
    assert "".join(wanted).replace("##", "") == expected.replace("##", "")
    assert text.count("{") == row.num_masked + 1  # one in the legend


def test_instances_go_on_over_blocks_and_shards(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = len(read_index(finished / "train-000-00000-000.tar")) - 1
    assert main([str(finished), "--instances", "20", "--at", f"train-000-00000-000.tar:{last}:10"]) == 0
    headings = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("train-")]
    assert headings[0] == f"train-000-00000-000:{last}:10:"
    assert headings[6:8] == ["train-000-00000-001:0:0:", "train-000-00000-001:0:1:"]
    assert len(headings) == 20


def test_the_split_can_be_chosen(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished), "--split", "held_out"]) == 0
    assert capsys.readouterr().out.count("held_out-000-00000-000:0:") == 3
    assert main([str(finished)]) == 0
    assert capsys.readouterr().out.count("train-000-00000-000:0:") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "here"], "SHARD:BLOCK:ROW is wanted"),
        (["--at", "train-000-00000-000:-1:0"], "SHARD:BLOCK:ROW is wanted"),
        (["--at", "absent:0:0"], "--at: the manifest lists no shard 'absent.tar'"),
        (["--at", "train-000-00000-000:99:0"], "train-000-00000-000.tar has no block 99: it has"),
        (["--at", "train-000-00000-000:0:16"], "train-000-00000-000.tar block 0 has no row 16: it has 16, 0 to 15"),
        (["--at", "train-000-00000-000:0:0", "--split", "train"], "leave --split out"),
        (["--instances", "0"], "--instances 0: at least 1"),
    ],
)
def test_an_argument_that_names_nothing_is_one_message_and_code_2(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(finished), *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_argparse_refuses_what_is_no_number(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(finished), "--instances", "many"])
    assert caught.value.code == 2


def test_a_directory_without_manifest_or_split_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "has no manifest.json" in capsys.readouterr().err
    finish_directory(tmp_path, {"train": build(prose_like_documents(2), tmp_path).shards})
    assert main([str(tmp_path), "--split", "held_out"]) == 2
    assert "--split held_out: the manifest has no such shards, only train" in capsys.readouterr().err


def test_a_damaged_block_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_directory(tmp_path, {"train": build(prose_like_documents(2), tmp_path).shards})
    tar = tmp_path / "train-000-00000-000.tar"
    tar.write_bytes(tar.read_bytes()[:700] + b"x" + tar.read_bytes()[701:])
    assert main([str(tmp_path)]) == 2
    assert "show: train-000-00000-000.tar block 0: crc32 is" in capsys.readouterr().err


def test_a_missing_shard_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_directory(tmp_path, {"train": build(prose_like_documents(2), tmp_path).shards})
    (tmp_path / "train-000-00000-000.tar").unlink()
    assert main([str(tmp_path)]) == 2
    assert "train-000-00000-000.tar" in capsys.readouterr().err


def test_the_suffix_of_a_place_may_be_left_out() -> None:
    assert parse_place("a:1:2") == parse_place("a.tar:1:2") == ("a.tar", 1, 2)


@pytest.mark.parametrize("content", [None, "{}"], ids=["missing", "damaged"])
def test_a_tokenizer_that_cannot_be_read_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    finish_directory(tmp_path, {"train": build(prose_like_documents(2), tmp_path).shards})
    path = tmp_path / "tokenizer" / "tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert main([str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"show: {path} cannot be read (")
    assert output.err.count("\n") == 1
