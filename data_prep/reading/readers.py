"""A part of the corpus -> its documents' raw texts, each with its line; what cannot be read is named by file and line.

datatrove's own readers skip bad JSON with a warning and abandon a file at a bad byte, so all of them are ours.
"""

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import fsspec
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from data_prep.corpus import compression_of, plain_suffix
from data_prep.corpus_config import CorpusConfig, CorpusFormat, OnError
from data_prep.corpus_parts import CorpusPart
from data_prep.executors.progress import TaskProgress
from data_prep.plan import read_task
from data_prep.reading.lines import count_lines_before, iterate_lines
from data_prep.reading.read_csv import read_csv
from data_prep.reading.read_lines import read_blank_line_separated, read_json_lines, read_text
from data_prep.reading.read_tables import read_arrow, read_parquet
from data_prep.reading.read_warc import check_packages, read_warc
from data_prep.reading.read_wikiextractor import read_wikiextractor
from data_prep.reading.unreadable import (
    Found,
    Reason,
    SkippedDocuments,
    Unreadable,
    WatchedFile,
    is_damage,
    raise_unreadable,
)

SOURCE = "source_number"  # in a document's metadata: which of `corpus.sources`

BUFFER_BYTES = 1 << 16  # as much is lost before the place where a compressed file is damaged

# What a reader counts where it is not lines.
_PLACES = {CorpusFormat.parquet: "row", CorpusFormat.arrow: "row", CorpusFormat.warc: "record"}


class CorpusReader(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """The first step of a scatter task: reads the parts that the plan gives to this task, in order.

    `skipped` tells what the task that ran last has left out; scatter puts it into its file.
    """

    name = "Lambert corpus"

    def __init__(self, stage_dir: Path, corpus: CorpusConfig) -> None:
        super().__init__()
        self.stage_dir = stage_dir
        self.corpus = corpus
        self.sources = corpus.each_source()
        self.skipped = SkippedDocuments()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents of task `rank`; bytes read so far go to the task's progress file."""
        self.skipped.clear()
        progress = TaskProgress(self.stage_dir, rank)
        bytes_before = 0
        for part in read_task(self.stage_dir, rank):
            source = part.path if part.is_whole else f"{part.path}, from byte {part.start}"
            logger.info(f"reading {source}")
            with fsspec.open(part.path, "rb") as file:
                for line, text in read_texts(file, part, self.sources[part.source], self._on_unreadable):
                    progress.update(bytes_before + min(file.tell() - part.start, part.size))
                    yield Document(text=text, id="", metadata={"source": f"{source}:{line}", SOURCE: part.source})
            bytes_before += part.size

    def _on_unreadable(self, place: str, found: Unreadable) -> None:
        if self.corpus.on_error is OnError.skip:
            self.skipped.add(place, found)
        else:
            raise_unreadable(place, found)


def check_format(corpus_format: CorpusFormat) -> None:
    """Raise ValueError when the format needs a package that is not installed."""
    if corpus_format is CorpusFormat.warc:
        check_packages()


def read_texts(
    file: IO[bytes], part: CorpusPart, corpus: CorpusConfig, on_unreadable: Callable[[str, Unreadable], object]
) -> Iterator[tuple[int, str]]:
    """Yield (line or row, counted from 1 in this part, and text) for the documents of an open file that `part` has.

    A file is decompressed by its suffix. What cannot be read goes to `on_unreadable`, with the file and the true line:
    bytes that are not UTF-8, JSON that does not parse, a text field that is missing or no string, a document above
    `corpus.max_document_bytes`, a damaged file (the rest of it is then left out). It may raise; else reading goes on.
    """
    lines_before = cache(_count_lines_before)
    for line, text in _find(file, part, corpus):
        if isinstance(text, str):
            yield line, text
        elif line:
            word = _PLACES.get(corpus.format, "line")
            on_unreadable(f"{part.path}, {word} {line + lines_before(part)}", text)
        else:
            on_unreadable(part.path, text)


def _count_lines_before(part: CorpusPart) -> int:
    if part.start == 0:
        return 0
    with fsspec.open(part.path, "rb") as file:
        return count_lines_before(file, part.start)


def _find(file: IO[bytes], part: CorpusPart, corpus: CorpusConfig) -> Iterator[Found]:
    if corpus.format is CorpusFormat.parquet:
        yield from read_parquet(file, corpus.text_key, corpus.max_document_bytes)
        return
    if corpus.format is CorpusFormat.arrow:
        yield from read_arrow(file, corpus.text_key, corpus.max_document_bytes)
        return
    compression = compression_of(part.path)
    watched = WatchedFile(file)
    raw: Any = _decompress(watched, compression) if compression else file
    plain = io.BufferedReader(raw, BUFFER_BYTES)  # fsspec's own remote files read a line at a time, slowly
    try:
        yield from _find_in_plain(plain, part, corpus)
        if compression and file.tell() == 0:
            # A compressed file of nothing still has a header; pyarrow takes zero bytes for a complete stream.
            raise OSError("it has zero bytes")
    except OSError as error:
        if not (compression and is_damage(error, watched)):
            raise
        message = f"cannot be decompressed ({error}); fetch or compress the file again"
        yield 0, Unreadable(Reason.unreadable_file, message)


def _find_in_plain(file: IO[bytes], part: CorpusPart, corpus: CorpusConfig) -> Iterator[Found]:
    limit = corpus.max_document_bytes
    lines = iterate_lines(file, limit, part.start, part.stop)
    match corpus.format:
        case CorpusFormat.text:
            return read_text(file, limit)
        case CorpusFormat.text_blank_lines:
            return read_blank_line_separated(lines, limit, part.start, part.stop)
        case CorpusFormat.jsonl:
            return read_json_lines(lines, corpus.text_key, limit, part.stop)
        case CorpusFormat.csv:
            return read_csv(file, "\t" if plain_suffix(part.path) == ".tsv" else ",", corpus.text_key, limit)
        case CorpusFormat.wikiextractor:
            return read_wikiextractor(lines, limit, part.stop)
        case CorpusFormat.warc:
            return read_warc(file, limit)
    raise AssertionError(corpus.format)


def _decompress(file: WatchedFile, compression: str) -> Any:
    # pyarrow, because Python's zstandard takes a truncated stream for a complete one.
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), compression)
