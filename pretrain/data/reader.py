"""Blocks of a shard directory by (shard, block): one range read each, checked by crc32. Local paths and fsspec URLs."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import MANIFEST_NAME, Manifest, ShardInfo, parse_manifest
from data_prep.shard_format import Block, checksum, decode_block, decode_index, index_name


class ShardError(ValueError):
    """A shard that is missing, of another size, or altered."""


class ShardDirectory:
    """A folder of shards, local or any fsspec URL. Opening one reads nothing."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        filesystem, root = fsspec.core.url_to_fs(self.url)
        return filesystem, root

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises ValueError when the directory has none (unfinished or not shards)."""
        filesystem, root = self._filesystem
        path = f"{root}/{MANIFEST_NAME}"
        try:
            text = filesystem.cat_file(path).decode()
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.url} has no {MANIFEST_NAME}: it is not a shard directory, or data_prep did not finish there; "
                "name another shards_dir, or run the same `python -m data_prep` command again to finish it"
            ) from error
        return parse_manifest(text, path)

    def copy_folder(self, name: str, target: Path) -> None:
        """Copy the files of a subfolder to a local folder."""
        filesystem, root = self._filesystem
        target.mkdir(parents=True, exist_ok=True)
        for path in filesystem.ls(f"{root}/{name}", detail=False):
            (target / Path(path).name).write_bytes(filesystem.cat_file(path))

    def check_sizes(self, shards: list[ShardInfo]) -> None:
        """Raise ShardError unless every one of `shards` and its index exist with the manifest's sizes."""
        for shard in shards:
            self._check_size(shard.name, shard.bytes)
            self._check_size(index_name(shard.name), shard.index_bytes)

    def _check_size(self, name: str, expected: int) -> None:
        filesystem, root = self._filesystem
        try:
            size = filesystem.size(f"{root}/{name}")
        except FileNotFoundError as error:
            raise ShardError(f"{self.url}/{name} is missing but the manifest lists it; copy it again") from error
        if size != expected:
            raise ShardError(
                f"{self.url}/{name} has {size} bytes, the manifest says {expected}: "
                "it was cut or replaced; copy it again, `python -m data_prep.audit` checks all of them"
            )

    def read_index(self, shard: ShardInfo) -> NDArray[np.void]:
        """Return the block index of a shard, INDEX_DTYPE [blocks]. Raises ShardError when it is not the manifest's."""
        filesystem, root = self._filesystem
        name = index_name(shard.name)
        index = decode_index(filesystem.cat_file(f"{root}/{name}"))
        if len(index) != shard.blocks or int(index["sequences"].sum()) != shard.sequences:
            raise ShardError(f"{self.url}/{name} does not match the manifest; copy it again")
        return index

    def read_block(self, shard: ShardInfo, block: int, place: np.void) -> Block:
        """Return one block. `place` is its row of the index. Raises ShardError when its bytes were altered."""
        filesystem, root = self._filesystem
        start, length = int(place["offset"]), int(place["length"])
        data = filesystem.cat_file(f"{root}/{shard.name}", start=start, end=start + length)
        if len(data) != length or checksum(data) != int(place["crc32"]):
            raise ShardError(
                f"{self.url}/{shard.name}, block {block}: the bytes do not have the checksum of the index, "
                "so the file was altered after it was written; copy it again from its source"
            )
        return decode_block(data)


class BlockReader:
    """Reads blocks of one split for a few streams and keeps one block per stream in memory."""

    def __init__(self, directory: ShardDirectory, shards: list[ShardInfo], num_streams: int):
        self._directory = directory
        self._shards = shards
        self._current: dict[int, tuple[tuple[int, int], Block]] = {}
        # One open index per stream, and one to spare for the shard a stream moves on to.
        self._index = lru_cache(maxsize=2 * num_streams)(self._read_index)

    def _read_index(self, shard: int) -> NDArray[np.void]:
        return self._directory.read_index(self._shards[shard])

    def block_sequences(self, shard: int) -> NDArray[np.int64]:
        """Return the sequences per block of `shard`, int64 [blocks]."""
        return self._index(shard)["sequences"].astype(np.int64)

    def rows(self, stream: int, shard: int, block: int, rows: NDArray[np.int64]) -> Block:
        """Return the given rows of a block; `stream` names the place in memory that keeps it for the next call."""
        held = self._current.get(stream)
        if held is None or held[0] != (shard, block):
            data = self._directory.read_block(self._shards[shard], block, self._index(shard)[block])
            held = ((shard, block), data)
            self._current[stream] = held
        return held[1].take(rows)
