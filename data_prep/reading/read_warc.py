"""Web archives -> the main text of their pages; WET files, whose records are text already, as they are.

Needs the optional packages warcio and trafilatura.
"""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, Any

from data_prep.reading.unreadable import Found, Reason, Unreadable, not_utf8, too_large

_PACKAGES = ("warcio", "trafilatura", "lxml_html_clean")
_PAGES = ("text/html", "application/xhtml+xml")


def check_packages() -> None:
    """Raise ValueError naming the extra when a package that reads web archives is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"corpus.format=warc needs {' and '.join(missing)}: pip install 'lambert-pretraining[warc]'")


def read_warc(file: IO[bytes], limit: int) -> Iterator[Found]:
    """Yield the text of every page (a response of status 200 with HTML) and every conversion record, with its number.

    Records of every kind are counted, from 1; those of other kinds hold no text. A page in which trafilatura finds none
    is an empty document. A page of more than `limit` bytes, its text included, is too large.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it warns of pages without text
    records = ArchiveIterator(file)
    number, record = 0, None
    try:
        for number, record in enumerate(records, start=1):
            if records.err_count:  # the record before this one did not end where it said
                yield number - 1, _damaged("it does not end where its Content-Length says")
                return
            if record.rec_type == "conversion" or _is_page(record):
                text = _read_text(record, limit)
                if isinstance(text, Unreadable) or not _bytes_left(record):
                    yield number, text
    except ArchiveLoadFailed as error:
        yield number + 1, _damaged(str(error))
        return
    if record is not None and _bytes_left(record):
        yield number, _damaged("the file ends inside it")


def _is_page(record: Any) -> bool:
    http = record.http_headers
    if record.rec_type != "response" or http is None or http.get_statuscode() != "200":
        return False
    declared = record.rec_headers.get_header("WARC-Identified-Payload-Type") or http.get_header("Content-Type") or ""
    return declared.partition(";")[0].strip().lower() in _PAGES


def _read_text(record: Any, limit: int) -> str | Unreadable:
    stream = record.content_stream()
    parts: list[bytes] = []
    size = 0
    while size <= limit and (part := stream.read(limit + 1 - size)):
        parts.append(part)
        size += len(part)
    if size > limit:
        return too_large(max(size, record.length or 0), limit)
    data = b"".join(parts)
    if record.rec_type == "response":
        return _extract(data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)


def _extract(page: bytes) -> str | Unreadable:
    from trafilatura import extract

    try:
        # Its deduplication remembers earlier pages: a text would depend on what the process has read before.
        return extract(page, include_comments=False, favor_precision=True, deduplicate=False) or ""
    except Exception as error:  # whatever a parser of the open web may raise
        return Unreadable(
            Reason.not_extracted, f"trafilatura cannot extract its text ({type(error).__name__}: {error})"
        )


def _bytes_left(record: Any) -> int:
    """Return the bytes of a record that have not been read: of the last one, those that the file lacks."""
    return int(getattr(record.raw_stream, "limit", 0))


def _damaged(reason: str) -> Unreadable:
    return Unreadable(Reason.unreadable_file, f"not a readable WARC record ({reason}); fetch the file again")
