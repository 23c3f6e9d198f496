"""Tags in IOB1, IOB2 or BIOES -> checked tags in IOB2, which everything else here speaks; words -> characters.

IOB1 (Ramshaw and Marcus 1995): I-X inside an entity, B-X only where one of the same type follows at once. IOB2
(Ratnaparkhi 1998): B-X begins every entity. BIOES: B-X, I-X, E-X, and S-X for an entity of one word.
"""

import re
from collections.abc import Iterable, Sequence

from finetune.task_config import TagScheme

OUTSIDE = "O"
PREFIXES = {TagScheme.iob1: "BI", TagScheme.iob2: "BI", TagScheme.bioes: "BIES"}

_OPEN = "BI"  # BIOES: an entity goes on after these
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_HAN}]|[^{_HAN}]+")
_UNSPACED = re.compile(rf"[{_HAN}\u3000-\u30ff\uff00-\uffef]")  # also Chinese and Japanese punctuation, and kana


class InvalidTagsError(ValueError):
    """A tag that its scheme does not allow where it stands; `position` counts words from 0."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


def to_iob2(tags: Sequence[str], scheme: TagScheme) -> list[str]:
    """Return the tags of one sentence in IOB2. Raises InvalidTagsError for the first that is not valid."""
    converted: list[str] = []
    previous = OUTSIDE
    for position, tag in enumerate(tags):
        prefix, kind = _split(position, tag, scheme)
        before, kind_before = previous[0], previous[2:]
        begins = _begins(prefix, kind, before, kind_before, scheme)
        fault = _fault(prefix, kind, before, kind_before, scheme)
        if fault:
            raise InvalidTagsError(position, f"tag {tag!r} after {previous!r} is not valid {scheme.value}: {fault}")
        converted.append(OUTSIDE if tag == OUTSIDE else f"{'B' if begins else 'I'}-{kind}")
        previous = tag
    if scheme is TagScheme.bioes and previous[0] in _OPEN:
        message = f"tag {previous!r} at the end of a sentence is not valid bioes: the entity must end with E- or be S-"
        raise InvalidTagsError(len(tags) - 1, message)
    return converted


def _split(position: int, tag: str, scheme: TagScheme) -> tuple[str, str]:
    """Return prefix and entity type of a tag, ("O", "") outside."""
    prefix, _, kind = tag.partition("-")
    if tag == OUTSIDE or (len(prefix) == 1 and prefix in PREFIXES[scheme] and kind):
        return prefix, kind
    allowed = ", ".join([OUTSIDE, *(f"{letter}-TYPE" for letter in PREFIXES[scheme])])
    raise InvalidTagsError(
        position, f"tag {tag!r} is not valid {scheme.value}, which has {allowed}; mend it, or set task.scheme"
    )


def _begins(prefix: str, kind: str, before: str, kind_before: str, scheme: TagScheme) -> bool:
    if scheme is TagScheme.iob1 and prefix == "I":
        return before == OUTSIDE or kind != kind_before
    return prefix in "BS"


def _fault(prefix: str, kind: str, before: str, kind_before: str, scheme: TagScheme) -> str:
    """Return what is wrong with a tag after the one before it, or nothing."""
    same = before != OUTSIDE and kind == kind_before
    if scheme is TagScheme.iob1:
        wrong = prefix == "B" and not same
        return "B- only begins an entity right after one of its type; is it task.scheme=iob2?" if wrong else ""
    if scheme is TagScheme.iob2:
        return "an entity begins with B-; is it task.scheme=iob1?" if prefix == "I" and not same else ""
    if before in _OPEN and (prefix not in "IE" or not same):
        return "the entity before must go on with I- or end with E-"
    if prefix in "IE" and not (before in _OPEN and same):
        return "an entity begins with B-, or is S- alone"
    return ""


def to_characters(words: Sequence[str], tags: Sequence[str] | None) -> tuple[list[str], list[str] | None]:
    """Return the Han characters of words one by one, other runs whole, with their tags in IOB2 where there are some."""
    pieces = [_UNIT.findall(word) for word in words]
    units = [unit for word in pieces for unit in word]
    if tags is None:
        return units, None
    return units, [tag for word, first in zip(pieces, tags, strict=True) for tag in _spread(first, len(word))]


def join_words(words: Sequence[str]) -> str:
    """Return words as they are written: with blanks between them, but none beside a Chinese or Japanese character.

    What `to_characters` took apart is whole again.
    """
    text = ""
    for word in words:
        together = not text or _UNSPACED.match(text[-1]) or _UNSPACED.match(word)
        text += word if together else f" {word}"
    return text


def unit_spans(word: str) -> list[tuple[int, int]]:
    """Return where a word's Han characters stand one by one, and its other runs whole: first and end, exclusive."""
    return [found.span() for found in _UNIT.finditer(word)]


def _spread(tag: str, count: int) -> Iterable[str]:
    return [tag, *[f"I-{tag[2:]}" if tag != OUTSIDE else tag] * (count - 1)]
