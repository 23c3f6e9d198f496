"""Finished shards of a local directory -> their indexes and blocks, checked as they are read."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import Block, checksum, decode_block, decode_index, index_name


def read_index(tar: Path) -> NDArray[np.void]:
    """Return the block index beside `tar`, INDEX_DTYPE [blocks]. Raises ValueError naming the file."""
    path = tar.with_name(index_name(tar.name))
    try:
        return decode_index(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path.name} is missing") from error
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def read_block(file: BinaryIO, entry: np.void) -> tuple[str, Block]:
    """Return the key and the block that one index entry locates in an open tar.

    Raises ValueError when the bytes are not those that were written; the caller knows the shard and the block.
    """
    file.seek(int(entry["offset"]))
    data = file.read(int(entry["length"]))
    if len(data) != entry["length"]:
        raise ValueError(f"the tar ends inside it ({len(data)} of {entry['length']} bytes)")
    if checksum(data) != entry["crc32"]:
        raise ValueError(f"crc32 is {checksum(data):08x} where the index says {int(entry['crc32']):08x}")
    block = decode_block(data)
    if block.num_sequences != entry["sequences"]:
        raise ValueError(f"it has {block.num_sequences} sequences where the index says {entry['sequences']}")
    return data[: data.index(b"\0")].decode().partition(".")[0], block
