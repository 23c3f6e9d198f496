"""The shard contract: sequences as columns in a block, blocks as samples of a tar shard, an index beside each tar.

numpy and the standard library only, so that any program can read or write shards. The manifest that lists the
shards is `data_prep.manifest`. README and `docs/shard_format.md` describe the members.
"""

import io
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1

IntArray = NDArray[np.integer[Any]]

INDEX_DTYPE = np.dtype([("offset", "<i8"), ("length", "<i8"), ("sequences", "<i4"), ("crc32", "<u4")])
"""One row of `NAME.index.npy`: where block i lies in the tar (bytes), how many sequences it holds, its checksum."""

END_OF_ARCHIVE = b"\0" * 1024
"""Two empty tar records: what closes a tar file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Up to `block_size` sequences as ragged columns, concatenated end to end.

    An instance is one `[CLS] A [SEP] B [SEP]`, or without pairs `[CLS] text [SEP]` with another [SEP] where a document
    ends inside it; a sequence is one instance or several packed ones. Masked positions count inside their instance. An
    optional column is None for every block of a directory or for none.
    """

    input_ids: IntArray  # [tokens]: after masking (static) or before (dynamic)
    instance_lengths: IntArray  # [instances]: tokens per instance
    segment_a_lengths: IntArray  # [instances]: tokens of `[CLS] A [SEP]`, without pairs all of them
    sequence_instances: IntArray  # [sequences]: instances packed in each sequence
    masked_lm_counts: IntArray | None = None  # [instances]
    masked_lm_positions: IntArray | None = None  # [masked]
    masked_lm_ids: IntArray | None = None  # [masked]: the original ids
    word_starts: NDArray[np.bool_] | None = None  # [tokens]; bits on disk
    next_sentence_labels: IntArray | None = None  # [instances]: nsp 1 = random B; sop 1 = swapped

    @property
    def num_sequences(self) -> int:
        """Rows of this block."""
        return len(self.sequence_instances)

    @property
    def num_instances(self) -> int:
        """Instances in all rows."""
        return len(self.instance_lengths)

    @property
    def num_tokens(self) -> int:
        """Tokens in all rows."""
        return len(self.input_ids)

    @property
    def num_masked(self) -> int:
        """Masked positions in all rows; 0 when masking is dynamic."""
        return 0 if self.masked_lm_ids is None else len(self.masked_lm_ids)

    def take(self, rows: IntArray) -> "Block":
        """Return a block of the given sequences, int [rows], in that order; a row may repeat."""
        instances = ragged_indices(self.sequence_instances, rows)
        tokens = ragged_indices(self.instance_lengths, instances)
        masked = None if self.masked_lm_counts is None else ragged_indices(self.masked_lm_counts, instances)
        return Block(
            input_ids=self.input_ids[tokens],
            instance_lengths=self.instance_lengths[instances],
            segment_a_lengths=self.segment_a_lengths[instances],
            sequence_instances=self.sequence_instances[rows],
            masked_lm_counts=_pick(self.masked_lm_counts, instances),
            masked_lm_positions=_pick(self.masked_lm_positions, masked),
            masked_lm_ids=_pick(self.masked_lm_ids, masked),
            word_starts=_pick(self.word_starts, tokens),
            next_sentence_labels=_pick(self.next_sentence_labels, instances),
        )


def _pick(column: NDArray[Any] | None, indices: IntArray | None) -> Any:
    return None if column is None or indices is None else column[indices]


def ragged_indices(lengths: IntArray, rows: IntArray) -> NDArray[np.int64]:
    """Return the flat indices, int64, of the given rows of a ragged column whose row i has `lengths[i]` items."""
    counts = lengths[rows].astype(np.int64)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    first_out = np.cumsum(counts) - counts
    return np.repeat(starts[rows] - first_out, counts) + np.arange(counts.sum(), dtype=np.int64)


def concatenate_blocks(blocks: Sequence[Block]) -> Block:
    """Return one block with the sequences of all `blocks` (at least one, all with the same columns), in order."""
    columns: dict[str, Any] = {}
    for field in fields(Block):
        parts = [getattr(block, field.name) for block in blocks]
        columns[field.name] = None if parts[0] is None else np.concatenate(parts)
    return Block(**columns)


def column_dtypes(vocab_size: int, max_seq_length: int) -> dict[str, str]:
    """Return the smallest unsigned dtype name per column that holds every value these limits allow."""
    of_ids = np.min_scalar_type(max(vocab_size - 1, 1)).name
    of_lengths = np.min_scalar_type(max_seq_length).name
    return {
        "input_ids": of_ids,
        "instance_lengths": of_lengths,
        "segment_a_lengths": of_lengths,
        "sequence_instances": of_lengths,
        "masked_lm_counts": of_lengths,
        "masked_lm_positions": of_lengths,
        "masked_lm_ids": of_ids,
        "word_starts": "uint8",
        "next_sentence_labels": "uint8",
    }


def encode_block(block: Block, key: str, dtypes: dict[str, str]) -> bytes:
    """Return the tar records of one block: a member `KEY.COLUMN.npy` per column, bytes a pure function of the input.

    `key` is the sample's name (no dot: WebDataset splits there). Raises ValueError when a value does not fit its dtype.
    """
    if "." in key:
        raise ValueError(f"block key {key!r} must not contain a dot: WebDataset takes what follows as the column")
    records = io.BytesIO()
    for field in fields(Block):
        column = getattr(block, field.name)
        if column is not None:
            stored = np.packbits(column) if field.name == "word_starts" else _narrow(column, field.name, dtypes)
            data = io.BytesIO()
            np.lib.format.write_array(data, stored, version=(1, 0), allow_pickle=False)
            member = tarfile.TarInfo(f"{key}.{field.name}.npy")
            member.size = data.tell()
            records.write(member.tobuf(tarfile.USTAR_FORMAT))
            records.write(data.getvalue())
            records.write(b"\0" * (-data.tell() % tarfile.BLOCKSIZE))
    return records.getvalue()


def _narrow(column: IntArray, name: str, dtypes: dict[str, str]) -> IntArray:
    limit = np.iinfo(dtypes[name])
    if len(column) and not limit.min <= int(column.min()) <= int(column.max()) <= limit.max:
        raise ValueError(f"column {name} has values outside {dtypes[name]}: {column.min()} to {column.max()}")
    return column.astype(dtypes[name])


def decode_block(data: bytes) -> Block:
    """Return the block whose tar records are `data` (as the index locates them).

    Raises ValueError when the members are not those of a block.
    """
    known = {field.name for field in fields(Block)}
    columns: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                name = member.name.partition(".")[2].removesuffix(".npy")
                payload = tar.extractfile(member)
                if name not in known or payload is None:
                    raise ValueError(f"tar member {member.name!r} is no column of format version {FORMAT_VERSION}")
                columns[name] = np.lib.format.read_array(io.BytesIO(payload.read()), allow_pickle=False)
        if "word_starts" in columns:
            bits = np.unpackbits(columns["word_starts"], count=len(columns["input_ids"]))
            columns["word_starts"] = bits.astype(np.bool_)
        return Block(**columns)
    except (tarfile.TarError, TypeError, KeyError) as error:
        raise ValueError(f"not a block of format version {FORMAT_VERSION}: {error}") from error


def index_name(shard_name: str) -> str:
    """Return the file name of the block index that lies beside `shard_name` (`NAME.tar` -> `NAME.index.npy`)."""
    return shard_name.removesuffix(".tar") + ".index.npy"


def encode_index(rows: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return the bytes of `NAME.index.npy` for rows of (offset, length, sequences, crc32)."""
    data = io.BytesIO()
    np.lib.format.write_array(data, np.array(rows, dtype=INDEX_DTYPE), version=(1, 0), allow_pickle=False)
    return data.getvalue()


def decode_index(data: bytes) -> NDArray[np.void]:
    """Return the block index, INDEX_DTYPE [blocks]. Raises ValueError when `data` is not one."""
    index: NDArray[np.void] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if index.dtype != INDEX_DTYPE or index.ndim != 1:
        raise ValueError(f"not a block index: dtype {index.dtype}, shape {index.shape}")
    return index


def checksum(data: bytes) -> int:
    """Return the crc32 of a block's tar records, as the index stores it."""
    return zlib.crc32(data)
