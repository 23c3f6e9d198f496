import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardInfo,
    TokenizerInfo,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from data_prep.shard_format import FORMAT_VERSION, column_dtypes


def shard(name: str, sequences: int) -> ShardInfo:
    return ShardInfo(
        name=name, blocks=1, sequences=sequences, instances=sequences, tokens=9 * sequences, masked_tokens=sequences,
        bytes=2048, sha256="a" * 64, index_bytes=152, index_sha256="b" * 64,
    )  # fmt: skip


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        tokenizer=TokenizerInfo(
            directory="tokenizer", sha256="c" * 64, vocab_size=60, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1
        ),
        max_seq_length=32,
        block_size=8,
        column_dtypes=column_dtypes(60, 32),
        config={"seed": 1, "corpus": {"paths": ["数据"]}},
        statistics={"documents": 3},
        splits={"train": [shard("a.tar", 3), shard("b.tar", 4)], "held_out": [shard("c.tar", 1)]},
    )


def test_a_manifest_survives_the_disk(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_sequences_are_counted_per_split(manifest: Manifest) -> None:
    assert manifest.num_sequences("train") == 7
    assert manifest.num_sequences("held_out") == 1


def test_the_files_of_the_tokenizer_go_by_its_kind_and_older_manifests_have_word_pieces(manifest: Manifest) -> None:
    assert manifest.tokenizer_files == ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    kinds = {
        kind: replace(manifest, config={"tokenizer": {"kind": kind}}) for kind in ("wordpiece", "byte_bpe", "unigram")
    }
    assert kinds["wordpiece"].tokenizer_files == manifest.tokenizer_files
    with pytest.raises(ValueError, match=r"tokenizer\.kind=later, and this release has wordpiece, byte_bpe, unigram;"):
        _ = replace(manifest, config={"tokenizer": {"kind": "later"}}).tokenizer_files
    assert kinds["unigram"].tokenizer_files == ("tokenizer.json", "tokenizer_config.json")
    assert kinds["byte_bpe"].tokenizer_files == ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


def test_the_fingerprint_tells_any_two_manifests_apart(manifest: Manifest) -> None:
    assert manifest.fingerprint() == replace(manifest).fingerprint()
    assert manifest.fingerprint() != replace(manifest, statistics={"documents": 4}).fingerprint()


def test_a_directory_without_manifest_is_called_unfinished(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no manifest\.json: .* run the same"):
        read_manifest(tmp_path)


def test_another_format_version_is_refused_by_number(manifest: Manifest) -> None:
    text = json.dumps(json.loads(manifest.to_json()) | {"format_version": 99})
    with pytest.raises(ValueError, match=r"here\.json has format version 99, this release reads 1"):
        parse_manifest(text, "here.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"splits": {}}', "{"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"here\.json is not a shard manifest"):
        parse_manifest(text, "here.json")


@pytest.mark.parametrize("field", ["tokenizer", "splits", "block_size", "config"])
def test_a_missing_field_is_an_error(manifest: Manifest, field: str) -> None:
    values = json.loads(manifest.to_json())
    del values[field]
    with pytest.raises(ValueError, match=f"here.json lacks fields of format version 1: .*{field}"):
        parse_manifest(json.dumps(values), "here.json")
