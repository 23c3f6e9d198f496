"""The file a scatter task writes: its tokenized documents sorted by bucket, and where each bucket's range lies.

Documents are sorted in segments of at most `SEGMENT_TOKENS` (so memory does not depend on the task) that are merged at
the end: the range of a bucket is what each segment has of it, end to end. An index, notes and a fixed tail follow.
Build reads one range a file and nothing else.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_prep.atomic_file import atomic_file
from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments, concatenate_documents, iterate_runs, take_documents

# 8 Mi tokens: about 36 MB of English text, 25 MB of memory, twice that while they are sorted.
SEGMENT_TOKENS = 1 << 23

_MAGIC = b"LAMBSCA2"
_TAIL = struct.Struct("<8sIIIIQ")  # magic, segments, buckets, bytes per token id, bytes of the notes, end of the data
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
        self.skipped: Sequence[str] = []  # the first places of documents that could not be read
        self.opened = atomic_file(path)

    def __enter__(self) -> "ScatterWriter":
        self.file: BinaryIO = self.opened.__enter__()
        self.segments: BinaryIO = TemporaryFile(dir=self.path.parent)  # without a name: a kill leaves nothing
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
        finally:
            with suppress(OSError):  # closing writes what is left, which a full disk refuses a second time
                self.segments.close()
        self.opened.__exit__(kind, error, trace)

    def add(self, documents: TokenizedDocuments, buckets: IntArray) -> None:
        """Add documents; `buckets`, int [documents], says where each belongs."""
        ids = documents.token_ids.astype(self.token_dtype)
        self.pending.append((replace(documents, token_ids=ids), buckets))
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
            rows[bucket] = (self.segments.tell(), len(data), *lengths, zlib.crc32(data))
            self.segments.write(data)
        self.index.append(rows)

    def _finish(self) -> None:
        if self.pending:
            self._write_segment()
        index = np.stack(self.index, axis=1) if self.index else np.zeros((self.num_buckets, 0), _RANGE)
        for row in index.reshape(-1):
            self.segments.seek(row["offset"])
            row["offset"] = self.file.tell()
            self.file.write(self.segments.read(row["length"]))
        end = self.file.tell()
        notes = json.dumps({"counts": self.counts, "skipped": self.skipped}, sort_keys=True).encode()
        self.file.write(index.tobytes())
        self.file.write(notes)
        itemsize = self.token_dtype.itemsize
        self.file.write(_TAIL.pack(_MAGIC, len(self.index), self.num_buckets, itemsize, len(notes), end))


def iterate_bucket(scatter_files: Iterable[Path], bucket: int) -> Iterator[TokenizedDocuments]:
    """Yield the documents of one bucket, file by file and segment by segment; one range is read from each file.

    Raises ValueError naming the file when it is missing, cut short or altered.
    """
    for path in scatter_files:
        with _open(path) as file:
            _, segments, buckets, itemsize, _, end = _read_tail(file, path)
            assert 0 <= bucket < buckets, (bucket, buckets)
            file.seek(end + bucket * segments * _RANGE.itemsize)
            rows = np.frombuffer(file.read(segments * _RANGE.itemsize), _RANGE)
            for segment, row in enumerate(rows):
                file.seek(int(row["offset"]))
                data = file.read(int(row["length"]))
                if zlib.crc32(data) != row["crc32"]:
                    raise _damaged(path, f"bucket {bucket} of segment {segment} does not match its checksum")
                yield _decode(data, row, np.dtype(f"<u{itemsize}"))


def read_bucket(scatter_files: Sequence[Path], bucket: int) -> tuple[TokenizedDocuments, int]:
    """Return the documents of one bucket from all scatter files. Raises ValueError as `iterate_bucket` does.

    Of documents with the same id only the first is kept, range by range, so that memory grows with distinct ones only;
    the second value is how many were dropped.
    """
    parts: list[TokenizedDocuments] = []
    seen: set[bytes] = set()
    num_dropped = 0
    for documents in iterate_bucket(scatter_files, bucket):
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
    counts: dict[str, int] = _read_notes(path)["counts"]
    return counts


def read_skipped(path: Path) -> list[str]:
    """Return the first places of documents that the task left out. Raises ValueError as `read_bucket` does."""
    places: list[str] = _read_notes(path)["skipped"]
    return places


def _read_notes(path: Path) -> Any:
    with _open(path) as file:
        _, segments, buckets, _, length, end = _read_tail(file, path)
        file.seek(end + segments * buckets * _RANGE.itemsize)
        return json.loads(file.read(length))


def _encode(documents: TokenizedDocuments) -> bytes:
    columns = (
        documents.ids,
        documents.sources,
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
    columns = (("V16", documents), ("u1", documents), ("<u4", documents), ("<u4", sentences), (token_dtype, tokens))
    for dtype, count in columns:
        parts.append(np.frombuffer(data, dtype, count, offset))
        offset += parts[-1].nbytes
    starts = np.unpackbits(np.frombuffer(data, np.uint8, offset=offset), count=tokens).astype(np.bool_)
    return TokenizedDocuments(
        ids=parts[0],
        sources=parts[1],
        document_sentences=parts[2],
        sentence_lengths=parts[3],
        token_ids=parts[4],
        word_starts=starts,
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
