"""Parquet files, and the Arrow files that Hugging Face `datasets` saves -> documents, row by row."""

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from data_prep.reading.unreadable import (
    Found,
    Reason,
    Unreadable,
    WatchedFile,
    check_text,
    is_damage,
    no_column,
    not_utf8,
)

BATCH_ROWS = 1000  # at most
BATCH_BYTES = 16_000_000  # about, of rows of middling size

_ARROW_FILE = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

Table = tuple[list[str], Iterable[Any]]  # names of the columns, record batches


def read_parquet(file: IO[bytes], text_key: str, limit: int) -> Iterator[Found]:
    """Yield the column `text_key` of a Parquet file and the row, counted from 1."""

    def open_table(file: WatchedFile) -> Table:
        from pyarrow import parquet

        table = parquet.ParquetFile(file)
        return table.schema_arrow.names, _read_groups(table, text_key)

    return _read_rows(file, open_table, "Parquet", text_key, limit)


def _read_groups(table: Any, text_key: str) -> Iterator[Any]:
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        chunks = [group.column(column) for column in range(group.num_columns)]
        # A nested column is several chunks, named by their paths.
        of_text = [chunk for chunk in chunks if f"{chunk.path_in_schema}.".startswith(f"{text_key}.")]
        size = sum(chunk.total_uncompressed_size for chunk in of_text)
        rows = min(BATCH_ROWS, max(1, BATCH_BYTES * group.num_rows // max(size, 1)))
        yield from table.iter_batches(rows, row_groups=[number], columns=[text_key])


def read_arrow(file: IO[bytes], text_key: str, limit: int) -> Iterator[Found]:
    """Yield the column `text_key` of an Arrow stream (what `datasets` saves) or file and the row, counted from 1."""

    def open_table(file: WatchedFile) -> Table:
        from pyarrow import ipc

        if file.read(len(_ARROW_FILE)) == _ARROW_FILE:
            table = ipc.open_file(file)
            return table.schema.names, map(table.get_batch, range(table.num_record_batches))
        # pyarrow takes a stream that ends between two batches for a complete one.
        if file.seek(0, 2) < len(_END_OF_STREAM) or not _ends_with(file, _END_OF_STREAM):
            raise OSError("it does not end as an Arrow stream does")
        file.seek(0)
        stream = ipc.open_stream(file)
        return stream.schema.names, stream

    return _read_rows(file, open_table, "Arrow", text_key, limit)


def _ends_with(file: WatchedFile, data: bytes) -> bool:
    file.seek(-len(data), 2)
    return file.read() == data


def _read_rows(
    file: IO[bytes], open_table: Callable[[WatchedFile], Table], kind: str, text_key: str, limit: int
) -> Iterator[Found]:
    from pyarrow import ArrowException

    watched = WatchedFile(file)
    row = 0
    try:
        columns, batches = open_table(watched)
        if text_key not in columns:
            yield 0, no_column(text_key, columns)
            return
        for batch in batches:
            for value in batch.column(text_key):
                row += 1
                yield row, _pick(value, text_key, limit)
    except (ArrowException, OSError) as error:
        if not is_damage(error, watched):
            raise
        yield 0, Unreadable(Reason.unreadable_file, f"not a readable {kind} file ({error}); write or fetch it again")


def _pick(value: Any, text_key: str, limit: int) -> str | Unreadable:
    try:
        return check_text(value.as_py(), text_key, limit)
    except UnicodeDecodeError as error:
        return not_utf8(error)
