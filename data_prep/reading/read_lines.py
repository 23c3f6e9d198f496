"""Plain text and JSON Lines -> documents. Byte ranges of a file, read one by one, give each of its documents once."""

from collections.abc import Iterator
from typing import IO

import orjson

from data_prep.reading.lines import CHUNK_BYTES, END, Line
from data_prep.reading.unreadable import Found, Reason, Unreadable, check_text, not_utf8, too_large


def read_text(file: IO[bytes], limit: int) -> Iterator[Found]:
    """Yield the whole file as one document of at most `limit` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        size = len(data)
        while rest := file.read(CHUNK_BYTES):
            size += len(rest)
        yield 1, too_large(size, limit)
        return
    yield _join([data], 1, len(data), limit)


def read_json_lines(lines: Iterator[Line], text_key: str, limit: int, stop: int = END) -> Iterator[Found]:
    """Yield the text of every line that begins before byte `stop`; blank lines are passed over."""
    for line in lines:
        if line.offset >= stop:
            return
        if line.length > limit:
            yield line.number, too_large(line.length, limit)
        elif not line.data.isspace():
            yield line.number, _parse_json(line.data, text_key, limit)


def _parse_json(data: bytes, text_key: str, limit: int) -> str | Unreadable:
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode()
        except UnicodeDecodeError as cause:
            return not_utf8(cause)
        return Unreadable(Reason.not_json, f"not JSON ({error}); each line must be one JSON object")
    if not isinstance(record, dict):
        kind = type(record).__name__
        return Unreadable(Reason.no_text, f"a JSON {kind}, but each line must be an object")
    if text_key not in record:
        fields = ", ".join(map(repr, record)) or "none"
        return Unreadable(
            Reason.no_text, f"no field {text_key!r}, only {fields}; set corpus.text_key to the field with the text"
        )
    return check_text(record[text_key], text_key, limit)


def read_blank_line_separated(lines: Iterator[Line], limit: int, start: int = 0, stop: int = END) -> Iterator[Found]:
    """Yield the documents between the first blank line from byte `start` on and the first from byte `stop` on.

    Of a whole file the first document is the first that there is: nothing need come before it.
    """
    inside = start == 0
    parts: list[bytes] = []
    first, size = 0, 0
    for number, offset, data, length in lines:
        if _is_blank(data):
            if size:
                yield _join(parts, first, size, limit)
                parts, size = [], 0
            if offset >= stop:
                return
            inside = True
        elif inside:
            first = first if size else number
            size += length
            if size <= limit:
                parts.append(data)
        elif offset >= stop:
            return
    if size:
        yield _join(parts, first, size, limit)


def _is_blank(line: bytes) -> bool:
    if b" " < line[:1] < b"\x7f":  # nearly every line
        return False
    try:
        return line.decode().isspace()
    except UnicodeDecodeError:
        return False


def _join(parts: list[bytes], first: int, size: int, limit: int) -> Found:
    if size > limit:
        return first, too_large(size, limit)
    data = b"".join(parts)
    try:
        return first, data.decode()
    except UnicodeDecodeError as error:
        return first + data.count(b"\n", 0, error.start), not_utf8(error)
