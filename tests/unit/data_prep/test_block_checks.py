from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.block_checks import find_faults, rules_of
from data_prep.shard_format import Block
from data_prep.shard_reader import read_block, read_index
from tests.unit.data_prep.example_documents import documents_of, prose_like_documents
from tests.unit.data_prep.example_shards import TOKENIZER, build, finish_directory

SHORT = documents_of([[7, 9], [12], [8, 8, 8], [11]] * 12)


def first_block(directory: Path, kind: str) -> Block:
    [shard] = build(SHORT, directory, f"pairs.kind={kind}").shards
    tar = directory / shard.name
    with tar.open("rb") as file:
        return read_block(file, read_index(tar)[0])[1]


def faults_of(block: Block, directory: Path, kind: str) -> list[str]:
    return find_faults(block, rules_of(finish_directory(directory, {"train": []}, f"pairs.kind={kind}")))


@pytest.mark.parametrize("kind", ["nsp", "sop", "none"])
@pytest.mark.parametrize("packing", ["none", "best_fit"])
def test_what_is_built_is_sound(tmp_path: Path, kind: str, packing: str) -> None:
    overrides = [f"pairs.kind={kind}", f"sequence.packing={packing}"]
    [shard] = build(prose_like_documents(12), tmp_path, *overrides).shards
    rules = rules_of(finish_directory(tmp_path, {"train": [shard]}, *overrides))
    tar = tmp_path / shard.name
    with tar.open("rb") as file:
        for entry in read_index(tar):
            assert find_faults(read_block(file, entry)[1], rules) == []


def inner_separator(block: Block) -> int:
    """Return where the first instance has a [SEP] that is not its last token."""
    return int(np.flatnonzero(block.input_ids[: block.instance_lengths[0] - 1] == TOKENIZER.sep_id)[0])


def with_token(block: Block, place: int, token: int) -> Block:
    ids = block.input_ids.copy()
    ids[place] = token
    return replace(block, input_ids=ids)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda block: with_token(block, inner_separator(block) + 1, 3), "row 0: a [SEP] with no text before it"),
        (lambda block: with_token(block, 1, 3), "row 0: a [SEP] with no text before it"),
        (lambda block: with_token(block, inner_separator(block), 2), "row 0: a special token inside a segment"),
        (
            lambda block: replace(block, segment_a_lengths=block.segment_a_lengths - 1),
            "row 0: segment A is not the whole instance",
        ),
        (
            lambda block: replace(block, next_sentence_labels=np.zeros(block.num_instances, np.uint8)),
            "column next_sentence_labels has no place here",
        ),
    ],
)
def test_each_broken_rule_of_full_sentences_is_found(
    tmp_path: Path, change: Callable[[Block], Block], fault: str
) -> None:
    block = first_block(tmp_path, "none")
    assert fault in faults_of(change(block), tmp_path, "none")


def test_full_sentences_are_no_pairs_and_pairs_no_full_sentences(tmp_path: Path) -> None:
    full, pairs = first_block(tmp_path, "none"), first_block(tmp_path, "sop")
    assert faults_of(full, tmp_path, "sop") == ["column next_sentence_labels is missing"]
    assert faults_of(pairs, tmp_path, "none") == ["column next_sentence_labels has no place here"]
    labelled = replace(full, next_sentence_labels=np.zeros(full.num_instances, np.uint8))
    assert "row 0: segment A or B is empty" in faults_of(labelled, tmp_path, "sop")
