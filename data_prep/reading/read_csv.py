"""CSV with a header line -> documents; quoted fields may hold newlines, so a file is read from its beginning."""

import csv
from collections.abc import Iterator
from typing import IO

from data_prep.reading.lines import iterate_lines
from data_prep.reading.unreadable import Found, Reason, Unreadable, check_text, no_column, not_utf8


def read_csv(file: IO[bytes], delimiter: str, text_key: str, limit: int) -> Iterator[Found]:
    """Yield the column `text_key` of every row, with the line where the row begins; blank lines are passed over.

    A row that breaks the quoting, or is above `limit`, ends the file: where the next one begins can't be known.
    """
    csv.field_size_limit(limit)  # characters; it holds for the whole process
    lines = _DecodedLines(file, limit)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    first = 1
    try:
        for row in rows:
            lines.row_bytes = 0
            problem, lines.problem = lines.problem, None
            if header is None:
                header = row
                if problem or text_key not in header:
                    yield problem or (0, no_column(text_key, header))
                    return
            elif row:
                yield problem or (first, _pick(row, header, text_key, limit))
            first = rows.line_num + 1
    except _RowTooLargeError:
        yield first, _too_large(lines.row_bytes, limit)
    except csv.Error as error:
        yield first, _broken(error)


class _RowTooLargeError(Exception):
    """The lines of a row are together above the limit."""


class _DecodedLines:
    """The lines as text; `problem` is the first that could not be decoded since it was last set to None.

    `row_bytes` counts what was read since it was last set to 0.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.lines = iterate_lines(file, limit)
        self.limit = limit
        self.problem: Found | None = None
        self.row_bytes = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.row_bytes += line.length
            if self.row_bytes > self.limit:
                raise _RowTooLargeError
            try:
                yield line.data.decode()
            except UnicodeDecodeError as error:
                self.problem = self.problem or (line.number, not_utf8(error))
                yield line.data.decode(errors="replace")


def _pick(row: list[str], header: list[str], text_key: str, limit: int) -> str | Unreadable:
    if len(row) == len(header):
        return check_text(row[header.index(text_key)], text_key, limit)
    return Unreadable(
        Reason.bad_row,
        f"{len(row)} fields, but the first line names {len(header)}; quote the fields that hold a separator",
    )


def _too_large(size: int, limit: int) -> Unreadable:
    return Unreadable(
        Reason.too_large,
        f"a row that begins here has {size:,} bytes or more, above corpus.max_document_bytes={limit}; close its "
        "quotes, divide it, or raise the limit where memory allows: where the next row begins can't be known, so all "
        "that follows is left out with it",
    )


def _broken(error: csv.Error) -> Unreadable:
    return Unreadable(
        Reason.unreadable_file,
        f"a row that begins here is not CSV ({error}); double the quotes inside quoted fields, and close them",
    )
