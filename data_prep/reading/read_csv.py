"""CSV with a header line -> documents; quoted fields may hold newlines, so a file is read from its beginning."""

import csv
from collections.abc import Iterator
from typing import IO

from data_prep.reading.lines import iterate_lines
from data_prep.reading.unreadable import Found, Reason, Unreadable, check_text, no_column, not_utf8

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_csv(file: IO[bytes], delimiter: str, text_key: str, limit: int) -> Iterator[Found]:
    """Yield the column `text_key` of every row, with the line where the row begins; blank lines are passed over.

    A row that breaks the quoting ends the file: where the next one begins can't be known.
    """
    csv.field_size_limit(limit)  # characters; it holds for the whole process
    lines = _DecodedLines(file, limit)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    first = 1
    try:
        for row in rows:
            problem, lines.problem = lines.problem, None
            if header is None:
                header = row
                if problem or text_key not in header:
                    yield problem or (0, no_column(text_key, header))
                    return
            elif row:
                yield problem or (first, _pick(row, header, text_key, limit))
            first = rows.line_num + 1
    except csv.Error as error:
        yield first, _broken(error)


class _DecodedLines:
    """The lines as text; `problem` is the first that could not be decoded since it was last set to None."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.lines = iterate_lines(file, limit)
        self.limit = limit
        self.problem: Found | None = None

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            if line.length > self.limit:
                raise csv.Error(f"a line of {line.length:,} bytes is above corpus.max_document_bytes={self.limit}")
            data = line.data.removeprefix(_BYTE_ORDER_MARK) if line.number == 1 else line.data
            try:
                yield data.decode()
            except UnicodeDecodeError as error:
                self.problem = self.problem or (line.number, not_utf8(error))
                yield data.decode(errors="replace")


def _pick(row: list[str], header: list[str], text_key: str, limit: int) -> str | Unreadable:
    if len(row) == len(header):
        return check_text(row[header.index(text_key)], text_key, limit)
    return Unreadable(
        Reason.bad_row,
        f"{len(row)} fields, but the first line names {len(header)}; quote the fields that hold a separator",
    )


def _broken(error: csv.Error) -> Unreadable:
    return Unreadable(
        Reason.unreadable_file,
        f"a row that begins here is not CSV ({error}); double the quotes inside quoted fields, and close them",
    )
