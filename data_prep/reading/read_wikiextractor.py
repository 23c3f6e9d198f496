"""What WikiExtractor writes, `<doc id= url= title=>` ... `</doc>` -> documents without markup, title line and escapes.

Its files have no suffix (AA/wiki_00). With `--json` it writes JSON Lines: that is `corpus.format=jsonl`.
"""

import html
import re
from collections.abc import Iterator

from data_prep.reading.lines import END, Line
from data_prep.reading.unreadable import Found, Reason, Unreadable, not_utf8, too_large

_OPENING = b"<doc "
_CLOSING = b"</doc>"
_TITLE = re.compile(r'title="(.*)"\s*>')


def read_wikiextractor(lines: Iterator[Line], limit: int, stop: int = END) -> Iterator[Found]:
    """Yield the documents whose `<doc` line begins before byte `stop`; nothing before the first such line is read.

    The line that repeats the title is left out: it is no sentence. HTML escapes (`&lt;`) become their characters.
    """
    document: _Article | None = None
    for line in lines:
        if line.data.startswith(_OPENING):
            if document:
                yield document.number, _no_end()
            if line.offset >= stop:
                return
            document = _Article(line, limit)
        elif document and line.data.startswith(_CLOSING):
            yield document.number, document.text()
            document = None
        elif document:
            document.add(line)
    if document:
        yield document.number, _no_end()


def _no_end() -> Unreadable:
    return Unreadable(Reason.no_end, "this <doc ...> has no </doc> of its own; extract the file again")


class _Article:
    """The lines of one document, at most `limit` bytes of them."""

    def __init__(self, opening: Line, limit: int) -> None:
        self.limit = limit
        self.opening = opening.data
        self.number = opening.number
        self.size = 0
        self.parts: list[bytes] = []

    def add(self, line: Line) -> None:
        self.size += line.length
        if self.size <= self.limit:
            self.parts.append(line.data)

    def text(self) -> str | Unreadable:
        if self.size > self.limit:
            return too_large(self.size, self.limit)
        try:
            title = _TITLE.search(self.opening.decode())
            text = html.unescape(b"".join(self.parts).decode())
        except UnicodeDecodeError as error:
            return not_utf8(error)
        first, _, rest = text.lstrip().partition("\n")
        repeats = title is not None and first.strip() == html.unescape(title.group(1)).strip()
        return rest if repeats else text
