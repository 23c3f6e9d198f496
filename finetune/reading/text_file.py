"""A file of the user -> its text, whole or line by line, with errors that name file, line and remedy."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

STANDARD_INPUT = Path("<standard input>")
"""What is read line by line from where the shell says; messages name it so."""


def read_text_file(key: str, path: Path) -> str:
    """Return the text of a file, without a byte order mark; `key` is the config key that names the file.

    Raises ValueError when it is missing, no file, not UTF-8 or empty.
    """
    _require_file(key, path)
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file, as with iconv"
        ) from error
    if not text.strip():
        raise ValueError(f"{key}={path} is empty; name a file with examples")
    return text


def read_lines(key: str, path: Path) -> Iterator[str]:
    """Yield the lines of a file, or of standard input, each with its line break; one line is in memory at a time.

    Raises ValueError as `read_text_file`; a file is empty when it has nothing but blank lines.
    """
    if path != STANDARD_INPUT:
        _require_file(key, path)
    blank: list[str] | None = []  # leading lines, until one has text
    with nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            line = _decode_line(path, number, data)
            if blank is None:
                yield line
            elif line.strip():
                yield from [*blank, line]
                blank = None
            else:
                blank.append(line)
    if blank is not None:
        raise ValueError(f"{key}={path} is empty; name a file with examples")


def _decode_line(path: Path, number: int, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file, as with iconv"
        ) from error


def _require_file(key: str, path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{key}={path} does not exist; name a file")
    if not path.is_file():
        raise ValueError(f"{key}={path} is not a file; name one")
