"""An open file -> its lines from a byte on, each with its place and never more than a bounded part of it in memory."""

import sys
from collections.abc import Iterator
from typing import IO, NamedTuple

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
END = sys.maxsize  # beyond the last byte of any file


class Line(NamedTuple):
    """A line with its newline. `data` ends early where it is longer than the limit; `length` is the true one."""

    number: int  # counted from 1 in what is iterated
    offset: int  # bytes before it in the file
    data: bytes
    length: int


def iterate_lines(file: IO[bytes], limit: int, start: int = 0, stop: int = END) -> Iterator[Line]:
    """Yield the lines that begin at byte `start` or later, to the end of the file; the reader stops where it wants to.

    Of a line of more than `limit` bytes, `data` has `limit + 1`. A byte order mark before the first line is not in its
    `data`; alone, it is no line. Nothing is yielded when no line begins before `stop`.
    """
    offset = _find_line(file, start, stop) if start else 0
    if offset is None:
        return
    number = 0
    while data := file.readline(limit + 1):
        length = len(data)
        if length > limit and not data.endswith(b"\n"):
            length += _skip_line(file)
        if offset == 0:
            data = data.removeprefix(BYTE_ORDER_MARK)
        if data:
            number += 1
            yield Line(number, offset, data, length)
        offset += length


def count_lines_before(file: IO[bytes], start: int) -> int:
    """Return how many lines of the file come before those that `iterate_lines` yields from byte `start` on."""
    if not start:
        return 0
    file.seek(0)
    count, left = 1, start - 1  # the line that holds byte `start - 1` is the last one before
    while left and (data := file.read(min(left, CHUNK_BYTES))):
        count += data.count(b"\n")
        left -= len(data)
    return count


def _find_line(file: IO[bytes], start: int, stop: int) -> int | None:
    # A line begins at `start` when the byte before it is a newline.
    offset = start - 1
    file.seek(offset)
    while offset < stop:
        data = file.readline(CHUNK_BYTES)
        offset += len(data)
        if data.endswith(b"\n"):
            return offset
        if not data:
            return None
    return None


def _skip_line(file: IO[bytes]) -> int:
    length = 0
    while data := file.readline(CHUNK_BYTES):
        length += len(data)
        if data.endswith(b"\n"):
            break
    return length
