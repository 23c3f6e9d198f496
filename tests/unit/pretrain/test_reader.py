"""Blocks are read by range from any place, and what was altered, cut or lost is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.manifest import TRAIN, read_manifest
from data_prep.shard_format import decode_index, index_name
from pretrain.data.reader import BlockReader, ShardDirectory, ShardError
from tests.shards import write_shards


@pytest.fixture
def shards(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


@pytest.fixture(params=["path", "file URL", "pipe"])
def directory(request, shards, tmp_path, monkeypatch) -> ShardDirectory:
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "cache"))
    url = {"path": f"{shards}/", "file URL": f"file://{shards}", "pipe": f"pipe:cat {shards}/{{}}"}[request.param]
    return ShardDirectory(url)


def test_every_block_is_read_from_any_kind_of_place(directory, shards):
    manifest = directory.read_manifest()
    assert manifest == read_manifest(shards)
    reader = BlockReader(directory, manifest.splits[TRAIN], num_streams=1)
    for number, shard in enumerate(manifest.splits[TRAIN]):
        sizes = reader.block_sequences(number)
        assert sizes.sum() == shard.sequences
        blocks = [reader.rows(0, number, block, np.arange(size)) for block, size in enumerate(sizes)]
        assert sum(block.num_tokens for block in blocks) == shard.tokens
    directory.check_sizes(manifest.splits[TRAIN])


def test_the_tokenizer_is_copied_whole(directory, shards, tmp_path):
    directory.copy_tokenizer(directory.read_manifest(), tmp_path / "copy")
    for path in (shards / "tokenizer").iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()


def test_a_missing_manifest_shard_or_tokenizer_is_named(shards, tmp_path):
    directory = ShardDirectory(str(shards))
    manifest = directory.read_manifest()
    lost = manifest.splits[TRAIN][2].name
    (shards / lost).unlink()
    with pytest.raises(ShardError, match=f"{lost} is missing"):
        directory.check_sizes(manifest.splits[TRAIN])
    (shards / "tokenizer" / "vocab.txt").unlink()
    with pytest.raises(ShardError, match=r"shards/tokenizer/vocab\.txt is missing; copy .* or run the same"):
        directory.copy_tokenizer(manifest, tmp_path / "copy")
    (shards / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        ShardDirectory(f"{shards}").read_manifest()


def test_an_altered_block_is_named_and_its_neighbours_still_read(shards):
    directory = ShardDirectory(str(shards))
    shard = directory.read_manifest().splits[TRAIN][0]
    index = decode_index((shards / index_name(shard.name)).read_bytes())
    data = bytearray((shards / shard.name).read_bytes())
    data[int(index[1]["offset"]) + 600] ^= 1
    (shards / shard.name).write_bytes(data)
    assert directory.read_block(shard, 0, index[0]).num_sequences == 16
    with pytest.raises(ShardError, match=rf"{shard.name}, block 1: .*checksum"):
        directory.read_block(shard, 1, index[1])


def test_an_index_of_another_shard_is_named(shards):
    directory = ShardDirectory(str(shards))
    first, last = (directory.read_manifest().splits[TRAIN][number] for number in (0, -1))
    (shards / index_name(first.name)).write_bytes((shards / index_name(last.name)).read_bytes())
    with pytest.raises(ShardError, match=f"{index_name(first.name)} does not match the manifest"):
        directory.read_index(first)


def test_a_stream_keeps_one_block_and_reads_it_once(shards, monkeypatch):
    directory = ShardDirectory(str(shards))
    reads: list[tuple[str, int]] = []
    read_block = directory.read_block

    def counting(shard, block, place):
        reads.append((shard.name, block))
        return read_block(shard, block, place)

    monkeypatch.setattr(directory, "read_block", counting)
    reader = BlockReader(directory, directory.read_manifest().splits[TRAIN], num_streams=2)
    for row in range(4):
        reader.rows(0, 0, 0, np.array([row]))
        reader.rows(1, 0, 1, np.array([row]))
    assert len(reads) == 2


def test_a_pipe_command_that_fails_is_named_and_fetches_nothing_before_it_is_read(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "cache"))
    directory = ShardDirectory(f"pipe:cat {shards}/{{}}")
    shard = directory.read_manifest().splits[TRAIN][0]
    directory.check_sizes([shard])
    (shards / index_name(shard.name)).unlink()
    with pytest.raises(OSError, match=f"{index_name(shard.name)} failed"):
        directory.read_index(shard)
    assert [path for path in (tmp_path / "cache").iterdir() if ".temp" not in path.name] == []


def test_shards_made_again_behind_the_same_pipe_are_not_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "cache"))
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "shards", ignore_errors=True)
        write_shards(tmp_path / "shards", seed=seed)
        directory = ShardDirectory(f"pipe:cat {tmp_path}/shards/{{}}")
        shard = directory.read_manifest().splits[TRAIN][0]
        assert directory.read_block(shard, 0, directory.read_index(shard)[0]).num_sequences == 16


def test_a_pipe_without_a_place_for_the_name_is_refused():
    with pytest.raises(ValueError, match=r"needs \{\} where the file name goes"):
        ShardDirectory("pipe:cat shards")
