"""A corpus file -> its documents' raw texts, each with its line; what cannot be read is an error with file and line.

datatrove's own readers skip bad JSON with a warning and abandon a file at a bad byte, so `read_file` is ours.
"""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import orjson
from datatrove.data import Document
from datatrove.pipeline.readers.base import BaseDiskReader

from data_prep.config import CorpusFormat
from data_prep.corpus import COMPRESSIONS
from data_prep.plan import read_task
from data_prep.progress import TaskProgress

PARQUET_BATCH_ROWS = 1000


class CorpusReader(BaseDiskReader):  # type: ignore[misc]  # datatrove has no types
    """The first step of a scatter task: reads the files that the plan gives to this task, in order."""

    name = "Lambert corpus"

    def __init__(self, stage_dir: Path, corpus_format: CorpusFormat, text_key: str) -> None:
        super().__init__(str(stage_dir), text_key=text_key)
        self.stage_dir = stage_dir
        self.corpus_format = corpus_format

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of task `rank`; bytes read so far go to the task's progress file."""
        files = read_task(self.stage_dir, rank)
        self.progress = TaskProgress(self.stage_dir, rank)
        self.bytes_before = 0
        for file in files:
            yield from self.read_files_shard([file.path])
            self.bytes_before += file.size

    def read_file(self, filepath: str) -> Iterator[Document]:
        """Yield the documents of one file. Raises ValueError with file and line for what cannot be read."""
        with fsspec.open(filepath, "rb") as file:
            for line, text in read_texts(file, filepath, self.corpus_format, self.text_key):
                self.progress.update(self.bytes_before + file.tell())
                yield Document(text=text, id="", metadata={"source": f"{filepath}:{line}"})


def read_texts(file: IO[bytes], path: str, corpus_format: CorpusFormat, text_key: str) -> Iterator[tuple[int, str]]:
    """Yield (line or row, counted from 1, and text) for every document of an open corpus file, decompressed by suffix.

    Raises ValueError naming `path`, the line and the remedy for bytes that are not UTF-8, JSON that does not parse,
    a text field that is missing or no string, and a damaged compressed or parquet file.
    """
    if corpus_format is CorpusFormat.parquet:
        yield from _read_parquet(file, path, text_key)
        return
    compression = COMPRESSIONS.get(PurePosixPath(path.lower()).suffix)
    plain = _decompress(file, compression) if compression else file
    try:
        if corpus_format is CorpusFormat.text:
            yield 1, _decode(plain.read(), path, 1)
        elif corpus_format is CorpusFormat.text_blank_lines:
            yield from _read_blank_line_separated(plain, path)
        else:
            yield from _read_json_lines(plain, path, text_key)
        if compression and file.tell() == 0:
            # A compressed file of nothing still has a header; pyarrow takes zero bytes for a complete stream.
            raise ValueError(f"{path}: a compressed file of zero bytes; fetch or compress the file again")
    except OSError as error:
        if not compression:
            raise
        raise ValueError(f"{path}: cannot be decompressed ({error}); fetch or compress the file again") from error


def _decompress(file: IO[bytes], compression: str) -> IO[bytes]:
    # pyarrow, because Python's zstandard takes a truncated stream for a complete one.
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), compression))


def _decode(data: bytes, path: str, first_line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file to UTF-8 "
            "(for example with iconv) or take it out of corpus.paths"
        ) from error


def _read_blank_line_separated(file: IO[bytes], path: str) -> Iterator[tuple[int, str]]:
    lines: list[str] = []
    first_line = 1
    for number, data in enumerate(file, start=1):
        line = _decode(data, path, number)
        if line.strip():
            first_line = first_line if lines else number
            lines.append(line)
        elif lines:
            yield first_line, "".join(lines)
            lines = []
    if lines:
        yield first_line, "".join(lines)


def _read_json_lines(file: IO[bytes], path: str, text_key: str) -> Iterator[tuple[int, str]]:
    for number, data in enumerate(file, start=1):
        if not data.strip():
            continue
        _decode(data, path, number)
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}); each line must be one JSON object") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: a JSON {type(record).__name__}, but each line must be an object")
        if text_key not in record:
            raise ValueError(
                f"{path}, line {number}: no field {text_key!r}, only {', '.join(map(repr, record)) or 'none'}; "
                "set corpus.text_key to the field with the text"
            )
        yield number, _check_text(record[text_key], path, f"line {number}", text_key)


def _read_parquet(file: IO[bytes], path: str, text_key: str) -> Iterator[tuple[int, str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        columns = table.schema_arrow.names
        if text_key not in columns:
            raise ValueError(
                f"{path}: no column {text_key!r}, only {', '.join(map(repr, columns))}; "
                "set corpus.text_key to the column with the text"
            )
        row = 0
        for batch in table.iter_batches(PARQUET_BATCH_ROWS, columns=[text_key]):
            for value in batch.column(0):
                row += 1
                yield row, _check_text(_parquet_value(value, path, row), path, f"row {row}", text_key)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error}); write or fetch it again") from error


def _parquet_value(value: Any, path: str, row: int) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, row {row}: text that is not UTF-8 ({error}); write the file again") from error


def _check_text(value: object, path: str, place: str, text_key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"{path}, {place}: field {text_key!r} is {type(value).__name__}, not a string; "
            "mend or drop the record, or set corpus.text_key to the field with the text"
        )
    return value
