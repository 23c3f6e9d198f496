"""Blocks of a shard directory by (shard, block): one range read each, checked by crc32."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.atomic_file import write_atomically
from data_prep.manifest import MANIFEST_NAME, Manifest, ShardInfo, parse_manifest
from data_prep.shard_format import Block, checksum, decode_block, decode_index, index_name
from pretrain.data.storage import PIPE, FsspecStorage, PipeStorage, open_storage


class ShardError(ValueError):
    """A shard that is missing, of another size, or altered."""


class ShardDirectory:
    """A folder of shards: a path, any fsspec URL, or a `pipe:` command. Opening one reads nothing."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._storage = open_storage(self.url)

    def _name(self, file: str) -> str:
        """Return how to name a file of this directory to a user."""
        return self.url.replace("{}", file) if self.url.startswith(PIPE) else f"{self.url}/{file}"

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises ValueError when the directory has none (unfinished or not shards)."""
        try:
            text = self._storage.read_fresh(MANIFEST_NAME).decode()
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.url} has no {MANIFEST_NAME}: it is not a shard directory, or data_prep did not finish there; "
                "name another shards_dir, or run the same `python -m data_prep` command again to finish it"
            ) from error
        manifest = parse_manifest(text, self._name(MANIFEST_NAME))
        self.use(manifest)
        return manifest

    def use(self, manifest: Manifest) -> None:
        """Read the files of this manifest from now on. A rank that was told the manifest calls it; others have."""
        if isinstance(self._storage, PipeStorage):
            self._storage.prefix = manifest.fingerprint()

    def copy_tokenizer(self, manifest: Manifest, target: Path) -> None:
        """Copy the tokenizer folder to a local one. Raises ShardError for a file that it lacks."""
        target.mkdir(parents=True, exist_ok=True)
        for name in manifest.tokenizer_files:
            file = f"{manifest.tokenizer.directory}/{name}"
            try:
                content = self._storage.read(file)
            except FileNotFoundError as error:
                raise ShardError(
                    f"{self._name(file)} is missing; copy the folder of the shards again, or run the same "
                    "`python -m data_prep` command again where it was made"
                ) from error
            write_atomically(target / name, content)

    def read_tokenizer(self, manifest: Manifest) -> Tokenizer:
        """Return the tokenizer whose ids the shards hold."""
        return Tokenizer.from_str(self._storage.read(f"{manifest.tokenizer.directory}/tokenizer.json").decode())

    def check_sizes(self, shards: Sequence[ShardInfo]) -> None:
        """Raise ShardError unless every one of `shards` and its index exist with the manifest's sizes.

        Behind a pipe that would fetch every shard: there each block's checksum must do, when it is read.
        """
        if not isinstance(self._storage, FsspecStorage):
            return
        for shard in shards:
            self._check_size(self._storage, shard.name, shard.bytes)
            self._check_size(self._storage, index_name(shard.name), shard.index_bytes)

    def _check_size(self, storage: FsspecStorage, name: str, expected: int) -> None:
        try:
            size = storage.size(name)
        except FileNotFoundError as error:
            raise ShardError(f"{self._name(name)} is missing but the manifest lists it; copy it again") from error
        if size != expected:
            raise ShardError(
                f"{self._name(name)} has {size} bytes, the manifest says {expected}: "
                "it was cut or replaced; copy it again, `python -m data_prep.audit` checks all of them"
            )

    def read_index(self, shard: ShardInfo) -> NDArray[np.void]:
        """Return the block index of a shard, INDEX_DTYPE [blocks]. Raises ShardError when it is not the manifest's."""
        name = index_name(shard.name)
        data = self._storage.read(name)
        if sha256(data).hexdigest() != shard.index_sha256:
            raise ShardError(f"{self._name(name)} does not match the manifest; copy it again")
        return decode_index(data)

    def read_beginning(self, shard: ShardInfo, length: int) -> bytes:
        """Return the first `length` bytes of a shard, unchecked."""
        return self._storage.read_range(shard.name, 0, length)

    def read_block(self, shard: ShardInfo, block: int, place: np.void) -> Block:
        """Return one block. `place` is its row of the index. Raises ShardError when its bytes were altered."""
        length = int(place["length"])
        data = self._storage.read_range(shard.name, int(place["offset"]), length)
        if len(data) != length or checksum(data) != int(place["crc32"]):
            raise ShardError(
                f"{self._name(shard.name)}, block {block}: the bytes do not have the checksum of the index, "
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

    def shard_name(self, shard: int) -> str:
        """Return the name of `shard` as `data_prep.show --at` takes it."""
        return self._shards[shard].name.removesuffix(".tar")

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
