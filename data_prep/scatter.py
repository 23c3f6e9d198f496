"""The file a scatter task writes: its tokenized documents sorted by bucket, and where each bucket's ranges lie.

A file is a run of segments, each holding at most `SEGMENT_TOKENS` (so memory does not depend on the task), then an
index, counts, and a fixed tail. Build reads one range a segment and nothing else.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_prep.atomic_file import atomic_file
from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments, concatenate_documents, iterate_runs, take_documents

# 64 Mi tokens: about 290 MB of English text, 130 to 270 MB of memory (twice that while they are sorted).
SEGMENT_TOKENS = 1 << 26

_MAGIC = b"LAMBSCAT"
_TAIL = struct.Struct("<8sIIIIQ")  # magic, segments, buckets, bytes per token id, bytes of the counts, end of the data
_RANGE = np.dtype([("offset", "<i8"), ("length", "<i8"), ("documents", "<i8"), ("sentences", "<i8"), ("tokens", "<i8"),
                   ("crc32", "<u4")])  # fmt: skip


class ScatterWriter:
    """Collects tokenized documents and writes them, sorted by bucket, as one file that appears when it is complete."""

    def __init__(self, path: Path, num_buckets: int, vocab_size: int, segment_tokens: int = SEGMENT_TOKENS) -> None:
        self.path = path
        self.num_buckets = num_buckets
        self.token_dtype = np.min_scalar_type(max(vocab_size - 1, 1)).newbyteorder("<")
        self.segment_tokens = segment_tokens
        self.pending: list[tuple[TokenizedDocuments, IntArray]] = []
        self.pending_tokens = 0
        self.index: list[NDArray[np.void]] = []
        self.counts: dict[str, int] = {}
        self.opened = atomic_file(path)

    def __enter__(self) -> "ScatterWriter":
        self.file: BinaryIO = self.opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self.opened.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self.opened.__exit__(kind, error, trace)

    def add(self, documents: TokenizedDocuments, buckets: IntArray) -> None:
        """Add documents; `buckets`, int [documents], says where each belongs."""
        ids = documents.token_ids.astype(self.token_dtype)
        narrow = TokenizedDocuments(
            ids=documents.ids,
            document_sentences=documents.document_sentences,
            sentence_lengths=documents.sentence_lengths,
            token_ids=ids,
            word_starts=documents.word_starts,
        )
        self.pending.append((narrow, buckets))
        self.pending_tokens += len(ids)
        if self.pending_tokens >= self.segment_tokens:
            self._write_segment()

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the counts that the file carries."""
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0) + value

    def _write_segment(self) -> None:
        documents = concatenate_documents([part for part, _ in self.pending])
        buckets = np.concatenate([part for _, part in self.pending])
        self.pending, self.pending_tokens = [], 0
        order = np.argsort(buckets, kind="stable")
        edges = np.searchsorted(buckets[order], np.arange(self.num_buckets + 1))
        rows = np.zeros(self.num_buckets, _RANGE)
        for bucket, part in enumerate(iterate_runs(take_documents(documents, order), edges)):
            data = _encode(part)
            lengths = (len(part.ids), len(part.sentence_lengths), len(part.token_ids))
            rows[bucket] = (self.file.tell(), len(data), *lengths, zlib.crc32(data))
            self.file.write(data)
        self.index.append(rows)

    def _finish(self) -> None:
        if self.pending:
            self._write_segment()
        end = self.file.tell()
        counts = json.dumps(self.counts, sort_keys=True).encode()
        for rows in self.index:
            self.file.write(rows.tobytes())
        self.file.write(counts)
        itemsize = self.token_dtype.itemsize
        self.file.write(_TAIL.pack(_MAGIC, len(self.index), self.num_buckets, itemsize, len(counts), end))


def read_bucket(scatter_files: Sequence[Path], bucket: int) -> tuple[TokenizedDocuments, int]:
    """Return the documents of one bucket (counted over both splits) from all scatter files, by range reads.

    Of documents with the same id only the first is kept, range by range, so that memory grows with distinct ones only;
    the second value is how many were dropped.
    Raises ValueError naming the file when it is missing, cut short or altered.
    """
    parts: list[TokenizedDocuments] = []
    seen: set[bytes] = set()
    num_dropped = 0
    for path in scatter_files:
        with _open(path) as file:
            _, segments, buckets, itemsize, _, end = _read_tail(file, path)
            assert 0 <= bucket < buckets, (bucket, buckets)
            for segment in range(segments):
                file.seek(end + (segment * buckets + bucket) * _RANGE.itemsize)
                row = np.frombuffer(file.read(_RANGE.itemsize), _RANGE)[0]
                file.seek(int(row["offset"]))
                data = file.read(int(row["length"]))
                if zlib.crc32(data) != row["crc32"]:
                    raise _damaged(path, f"bucket {bucket} of segment {segment} does not match its checksum")
                documents = _decode(data, row, np.dtype(f"<u{itemsize}"))
                parts.append(_take_unseen(documents, seen))
                num_dropped += len(documents.ids) - len(parts[-1].ids)
    return concatenate_documents(parts), num_dropped


def _take_unseen(documents: TokenizedDocuments, seen: set[bytes]) -> TokenizedDocuments:
    """Return the documents whose ids are not in `seen`, each once, and add these ids to it."""
    rows: list[int] = []
    for row, identifier in enumerate(documents.ids):
        key = identifier.tobytes()
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return documents if len(rows) == len(documents.ids) else take_documents(documents, np.array(rows, dtype=np.int64))


def read_counts(path: Path) -> dict[str, int]:
    """Return the counts that a scatter file carries. Raises ValueError as `read_bucket` does."""
    with _open(path) as file:
        _, segments, buckets, _, length, end = _read_tail(file, path)
        file.seek(end + segments * buckets * _RANGE.itemsize)
        counts: dict[str, int] = json.loads(file.read(length))
        return counts


def _encode(documents: TokenizedDocuments) -> bytes:
    columns = (
        documents.ids,
        documents.document_sentences.astype("<u4"),
        documents.sentence_lengths.astype("<u4"),
        documents.token_ids,
        np.packbits(documents.word_starts),
    )
    return b"".join(column.tobytes() for column in columns)


def _decode(data: bytes, row: NDArray[np.void] | np.void, token_dtype: np.dtype[Any]) -> TokenizedDocuments:
    documents, sentences, tokens = int(row["documents"]), int(row["sentences"]), int(row["tokens"])
    parts: list[NDArray[Any]] = []
    offset = 0
    for dtype, count in (("V16", documents), ("<u4", documents), ("<u4", sentences), (token_dtype, tokens)):
        parts.append(np.frombuffer(data, dtype, count, offset))
        offset += parts[-1].nbytes
    starts = np.unpackbits(np.frombuffer(data, np.uint8, offset=offset), count=tokens).astype(np.bool_)
    return TokenizedDocuments(
        ids=parts[0], document_sentences=parts[1], sentence_lengths=parts[2], token_ids=parts[3], word_starts=starts
    )


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error


def _read_tail(file: BinaryIO, path: Path) -> tuple[Any, ...]:
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL.size))
    data = file.read()
    if len(data) != _TAIL.size or not data.startswith(_MAGIC):
        raise _damaged(path, "it does not end as a scatter file does")
    return _TAIL.unpack(data)


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"scatter file {path} cannot be used: {reason}; delete it and run the same command again")
