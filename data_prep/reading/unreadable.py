"""What cannot be read of a corpus: why, and what the user is told. `corpus.on_error` says whether it ends the run."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import IO, Any

MAX_LISTED = 20


class Reason(StrEnum):
    """Why a document cannot be read; the statistics count it as `skipped_` and this name."""

    not_utf8 = auto()
    not_json = auto()
    bad_row = auto()  # of a CSV file: its fields are not those of the header
    no_text = auto()  # the field with the text is missing or no string
    no_end = auto()  # of a WikiExtractor document: another begins, or the file ends, before it does
    not_extracted = auto()  # the text of a web page
    too_large = auto()  # above corpus.max_document_bytes
    unreadable_file = auto()  # damaged, or not of the format: nothing of it can be read from there on


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document that cannot be read, or what is left of a file; the message says what is wrong and how to mend it."""

    reason: Reason
    message: str


# What a reader finds, one by one: the line (row, record) where it begins, counted from 1, and the text, or what is
# wrong. Line 0 stands for the file as a whole.
Found = tuple[int, str | Unreadable]


class SkippedDocuments:
    """What a task leaves out under `corpus.on_error=skip`: counts by reason, and the first places."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: another task begins."""
        self.counts: Counter[str] = Counter()
        self.places: list[str] = []

    def add(self, place: str, found: Unreadable) -> None:
        """Count what is left out at `place`, a file and line; only the first 20 are listed."""
        self.counts.update(("skipped_documents", f"skipped_{found.reason}"))
        if len(self.places) < MAX_LISTED:
            self.places.append(f"{place}: {found.reason}")


def raise_unreadable(place: str, found: Unreadable) -> None:
    """Raise ValueError for what cannot be read at `place`, a file and line."""
    raise ValueError(f"{place}: {found.message} (corpus.on_error=skip leaves out what cannot be read)")


def ignore_unreadable(place: str, found: Unreadable) -> None:
    """Leave out what cannot be read at `place`; somebody else counts it."""


def not_utf8(error: UnicodeDecodeError) -> Unreadable:
    """Return what to say of bytes that do not decode."""
    return Unreadable(
        Reason.not_utf8,
        f"byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file to UTF-8 (for example with iconv) "
        "or take it out of corpus.paths",
    )


def too_large(size: int, limit: int) -> Unreadable:
    """Return what to say of a document of `size` bytes, or of more when only that much is known."""
    return Unreadable(
        Reason.too_large,
        f"a document of {size:,} bytes is above corpus.max_document_bytes={limit}; check corpus.format, "
        "divide the document, or raise the limit where memory allows",
    )


def no_column(text_key: str, columns: list[str]) -> Unreadable:
    """Return what to say of a table without the column of the text."""
    return Unreadable(
        Reason.unreadable_file,
        f"no column {text_key!r}, only {', '.join(map(repr, columns)) or 'none'}; "
        "set corpus.text_key to the column with the text",
    )


class WatchedFile:
    """An open file that pyarrow reads; `failed` says whether the file system or the network ever raised."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int = -1) -> bytes:
        """Read from the file, noting that it failed. File systems raise errors of any class, so none is looked for."""
        returned = False
        try:
            data = self.file.read(size)
            returned = True
        finally:
            self.failed |= not returned
        return data


def is_damage(error: Exception, file: WatchedFile) -> bool:
    """Return whether pyarrow speaks of the content of `file`: whatever the file itself has raised is no damage.

    pyarrow's own errors are a bare OSError without a number, or subclasses of ArrowException.
    """
    if file.failed:
        return False
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


def check_text(value: object, text_key: str, limit: int) -> str | Unreadable:
    """Return the value of the text field when it is a string of at most `limit` UTF-8 bytes."""
    if not isinstance(value, str):
        return Unreadable(
            Reason.no_text,
            f"field {text_key!r} is {type(value).__name__}, not a string; "
            "mend or drop the record, or set corpus.text_key to the field with the text",
        )
    if len(value) > limit // 4 and (size := len(value.encode(errors="replace"))) > limit:
        return too_large(size, limit)
    return value
