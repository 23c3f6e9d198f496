import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from data_prep.config import CorpusFormat
from data_prep.plan import write_tasks
from data_prep.readers import CorpusReader, read_texts

from .test_plan import corpus_file

LINES = b'{"text": "first", "id": 1}\n\n{"text": "second"}\n'


def read(path: Path, corpus_format: CorpusFormat, text_key: str = "text") -> list[tuple[int, str]]:
    with path.open("rb") as file:
        return list(read_texts(file, str(path), corpus_format, text_key))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", "één\n\ntwo".encode()), CorpusFormat.text) == [(1, "één\n\ntwo")]


def test_blank_lines_separate_documents_and_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\n\none\nmore\n \t\n\ntwo")
    assert read(path, CorpusFormat.text_blank_lines) == [(3, "one\nmore\n"), (7, "two")]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)],
)
def test_json_lines_are_read_whatever_the_compression(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", compress(LINES) + compress(LINES))
    assert read(path, CorpusFormat.jsonl) == [(1, "first"), (3, "second"), (4, "first"), (6, "second")]


def test_a_parquet_column_is_read_row_by_row(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"n": [1, 2], "body": ["first", "second"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", CorpusFormat.parquet, "body") == [(1, "first"), (2, "second")]


@pytest.mark.parametrize(
    ("data", "corpus_format", "message"),
    [
        (b"good\nb\xe9d\n", CorpusFormat.text, r"a\.txt, line 2: byte 0xe9 is not UTF-8; convert"),
        (b"good\n\ngood\nb\xe9d\n", CorpusFormat.text_blank_lines, r"a\.txt, line 4: byte 0xe9 is not UTF-8"),
        (LINES + b'{"text": "\xff"}\n', CorpusFormat.jsonl, r"a\.txt, line 4: byte 0xff is not UTF-8"),
        (LINES + b"{text: 1}\n", CorpusFormat.jsonl, r"a\.txt, line 4: not JSON"),
        (b'{"text": "\\ud800"}\n', CorpusFormat.jsonl, r"a\.txt, line 1: not JSON"),
        (LINES + b"[1]\n", CorpusFormat.jsonl, r"line 4: a JSON list, but each line must be an object"),
        (LINES + b'{"body": "x"}\n', CorpusFormat.jsonl, r"line 4: no field 'text', only 'body'; set corpus.text_key"),
        (LINES + b'{"text": null}\n', CorpusFormat.jsonl, r"line 4: field 'text' is NoneType, not a string"),
        (b"no parquet", CorpusFormat.parquet, r"a\.txt: not a readable parquet file"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_file_and_line(
    tmp_path: Path, data: bytes, corpus_format: CorpusFormat, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "a.txt", data), corpus_format)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"junk" + data])
def test_a_cut_or_damaged_compressed_file_is_an_error(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", damage(compress(LINES * 100)))
    with pytest.raises(ValueError, match=r"a\.jsonl.*cannot be decompressed"):
        read(path, CorpusFormat.jsonl)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"body": ["x"]}, "no column 'text', only 'body'"),
        ({"text": ["x", None]}, "row 2: field 'text' is NoneType"),
        ({"text": [["x"]]}, "row 1: field 'text' is list"),
    ],
)
def test_a_parquet_file_without_text_is_an_error(tmp_path: Path, table: dict[str, list[object]], message: str) -> None:
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.parquet", CorpusFormat.parquet)


def test_a_task_reads_its_own_files_only_and_notes_its_progress(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jsonl", json.dumps({"text": str(number)}).encode()) for number in range(3)]
    files = [type(corpus_file(0, 1))(path=str(path), size=path.stat().st_size, version="") for path in paths]
    write_tasks(tmp_path, [files[:1], files[1:]])
    documents = list(CorpusReader(tmp_path, CorpusFormat.jsonl, "text").run(rank=1, world_size=2))
    assert [document.text for document in documents] == ["1", "2"]
    assert documents[1].metadata["source"] == f"{paths[2]}:1"
    assert int((tmp_path / "progress" / "00001").read_text()) > 0


@pytest.mark.parametrize("corpus_format", [CorpusFormat.text, CorpusFormat.text_blank_lines, CorpusFormat.jsonl])
@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_a_compressed_file_of_zero_bytes_is_refused(tmp_path: Path, corpus_format: CorpusFormat, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", b"")
    with pytest.raises(ValueError, match=r"a\.\w+: a compressed file of zero bytes; fetch"):
        read(path, corpus_format)


def test_a_compressed_file_of_no_text_and_an_empty_plain_file_are_read(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.jsonl.gz", gzip.compress(b"")), CorpusFormat.jsonl) == []
    assert read(write(tmp_path / "a.jsonl", b""), CorpusFormat.jsonl) == []
