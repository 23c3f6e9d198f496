"""Blocks -> finished shards on disk: a tar and its index each, whole or not there at all."""

import hashlib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from data_prep.atomic_file import atomic_file, write_atomically
from data_prep.manifest import ShardInfo
from data_prep.shard_format import END_OF_ARCHIVE, Block, checksum, encode_block, encode_index, index_name


def write_shards(
    blocks: Iterable[Block], directory: Path, stem: str, dtypes: dict[str, str], shard_bytes: int
) -> list[ShardInfo]:
    """Write the blocks as `STEM-000.tar`, `STEM-001.tar`, ...; a shard ends at the block that reaches `shard_bytes`.

    No block gives no shard. Files of the same names from an earlier attempt are replaced. Raises OSError, naming the
    file and the remedy, when one cannot be written.
    """
    shards: list[ShardInfo] = []
    rest = iter(blocks)
    try:
        for block in rest:
            path = directory / f"{stem}-{len(shards):03d}.tar"
            shards.append(_write_shard(chain([block], rest), path, dtypes, shard_bytes))
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {error.filename or directory}: {error.strerror}; "
            "make room there or choose another output_dir, then run the same command again",
        ) from error
    return shards


def _write_shard(blocks: Iterable[Block], path: Path, dtypes: dict[str, str], shard_bytes: int) -> ShardInfo:
    """Write blocks until the shard is full or there are no more."""
    size = 0
    sha256 = hashlib.sha256()
    rows: list[tuple[int, int, int, int]] = []
    counts = {"sequences": 0, "instances": 0, "tokens": 0, "masked_tokens": 0}
    with atomic_file(path) as file:
        for block in blocks:
            # The shard's name makes the key unique in the directory, not only in the tar.
            data = encode_block(block, f"{path.stem}-{len(rows):05d}", dtypes)
            rows.append((size, len(data), block.num_sequences, checksum(data)))
            file.write(data)
            sha256.update(data)
            size += len(data)
            counts["sequences"] += block.num_sequences
            counts["instances"] += block.num_instances
            counts["tokens"] += block.num_tokens
            counts["masked_tokens"] += block.num_masked
            if size >= shard_bytes:
                break
        file.write(END_OF_ARCHIVE)
        sha256.update(END_OF_ARCHIVE)
        file.flush()  # a full disk must show before the index gets its name
        index = encode_index(rows)
        write_atomically(path.with_name(index_name(path.name)), index)
    return ShardInfo(
        name=path.name,
        blocks=len(rows),
        bytes=size + len(END_OF_ARCHIVE),
        sha256=sha256.hexdigest(),
        index_bytes=len(index),
        index_sha256=hashlib.sha256(index).hexdigest(),
        **counts,
    )
