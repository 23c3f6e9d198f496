from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from pyarrow import ipc, parquet

from data_prep.corpus import list_files
from data_prep.corpus_config import CorpusFormat
from data_prep.reading import read_tables
from tests.unit.data_prep.example_corpus import corpus_config, read, read_what_can_be, write

Columns = dict[str, list[object]]


def write_stream(path: Path, columns: Columns, batch_rows: int = 2) -> Path:
    table = pyarrow.table(columns)
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, batch_rows)
    return path


def write_arrow_file(path: Path, columns: Columns) -> Path:
    table = pyarrow.table(columns)
    with ipc.new_file(path, table.schema) as file:
        file.write_table(table, 2)
    return path


def write_parquet(path: Path, columns: Columns) -> Path:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


WRITERS = [
    (CorpusFormat.arrow, write_stream),
    (CorpusFormat.arrow, write_arrow_file),
    (CorpusFormat.parquet, write_parquet),
]
every_writer = pytest.mark.parametrize(("corpus_format", "write_table"), WRITERS)


@every_writer
def test_a_column_is_read_row_by_row(
    tmp_path: Path, corpus_format: CorpusFormat, write_table: Callable[[Path, Columns], Path]
) -> None:
    path = write_table(tmp_path / "a", {"n": [1, 2, 3], "body": ["first", "sécond", "third"]})
    assert read(path, corpus_format, text_key="body") == [(1, "first"), (2, "sécond"), (3, "third")]


@every_writer
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, r"a: no column 'text', only 'body'"),
        ({"text": ["x", None]}, r"a, row 2: field 'text' is NoneType"),
        ({"text": [["x"]]}, r"a, row 1: field 'text' is list"),
        ({"text": ["short", "much too long"]}, r"a, row 2: a document of 13 bytes is above corpus\.max_document_bytes"),
    ],
)
def test_a_table_without_text_is_an_error(
    tmp_path: Path, corpus_format: CorpusFormat, write_table: Callable[[Path, Columns], Path], columns: Columns,
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=message):
        read(write_table(tmp_path / "a", columns), corpus_format, max_document_bytes=10)


@every_writer
def test_bad_rows_are_left_out_and_the_others_read(
    tmp_path: Path, corpus_format: CorpusFormat, write_table: Callable[[Path, Columns], Path]
) -> None:
    path = write_table(tmp_path / "a", {"text": ["one", None, "two"]})
    assert read_what_can_be(path, corpus_format) == (["one", "two"], ["a, row 2: no_text"])


@every_writer
@pytest.mark.parametrize("kept", [0, 5, -1, -8])
def test_a_file_that_was_cut_is_refused(
    tmp_path: Path, corpus_format: CorpusFormat, write_table: Callable[[Path, Columns], Path], kept: int
) -> None:
    path = write_table(tmp_path / "a", {"text": ["one", "two", "three"]})
    path.write_bytes(path.read_bytes()[:kept])
    kind = corpus_format.value.capitalize()
    with pytest.raises(ValueError, match=rf"a: not a readable {kind} file \(.*\); write or fetch it again"):
        read(path, corpus_format)


def test_a_stream_damaged_in_the_middle_keeps_what_comes_before(tmp_path: Path) -> None:
    path = write_stream(tmp_path / "a", {"text": ["one", "two", "x" * 5000, "four"]})
    data = bytearray(path.read_bytes())
    middle = data.index(b"x" * 5000)
    del data[middle : middle + 1000]
    texts, skipped = read_what_can_be(write(path, bytes(data)), CorpusFormat.arrow)
    assert texts == ["one", "two"]
    assert skipped == ["a: unreadable_file"]


def test_the_error_of_a_disk_is_no_damage_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        read(tmp_path / "folder", CorpusFormat.parquet)


def test_a_saved_data_set_is_its_data_files(tmp_path: Path) -> None:
    for name in ("train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow", "test/cache-1f2e.arrow"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_stream(tmp_path / name, {"text": [name]})
    (tmp_path / "train" / "state.json").write_text("{}")
    files = list_files(corpus_config(CorpusFormat.arrow, [str(tmp_path)]), [])
    assert [text for file in files for _, text in read(file.path, CorpusFormat.arrow)] == [
        "train/data-00000-of-00002.arrow",
        "train/data-00001-of-00002.arrow",
    ]


def test_parquet_batches_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    iter_batches = parquet.ParquetFile.iter_batches

    def note(self: parquet.ParquetFile, rows: int, **options: object) -> Iterator[pyarrow.RecordBatch]:
        for batch in iter_batches(self, rows, **options):
            sizes.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", note)
    monkeypatch.setattr(read_tables, "BATCH_BYTES", 1000)
    texts = [f"{number:0100}" for number in range(30)] + [f"{number:05000}" for number in range(3)] + ["short"]
    numbers = [bytes(9000)] * len(texts)  # of another column: they don't count
    path = tmp_path / "a.parquet"
    with parquet.ParquetWriter(path, pyarrow.schema({"text": "string", "n": "binary"}), use_dictionary=False) as file:
        for start, stop in ((0, 30), (30, 33), (33, 34)):
            file.write_table(pyarrow.table({"text": texts[start:stop], "n": numbers[start:stop]}))
    assert [text for _, text in read(path, CorpusFormat.parquet)] == texts
    assert sizes == [8, 8, 8, 6, 1, 1, 1, 1]
