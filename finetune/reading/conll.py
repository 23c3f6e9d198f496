"""CoNLL columns, or JSON Lines with lists -> sentences of words, with the tags as the file has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from finetune.reading.faults import Faults, Place, at_line
from finetune.reading.tables import JSON_LINES, read_table
from finetune.reading.text_file import read_lines
from finetune.task_config import TaggingConfig

DOCUMENT_START = "-DOCSTART-"
"""CoNLL-2003 marks documents by a line that begins so; it belongs to no sentence."""


@dataclass(frozen=True, slots=True)
class TaggedWords:
    """One sentence of a file; `tags` is None where they are not asked for. `places` are those of the words."""

    places: list[Place]
    words: list[str]
    tags: list[str] | None


def read_tagged_words(
    key: str, path: Path, config: TaggingConfig, faults: Faults, *, labelled: bool, suffix: str | None = None
) -> Iterator[TaggedWords]:
    """Yield the sentences of a file, by its suffix JSON Lines or else CoNLL columns.

    A sentence with an empty word, without words, or with more or fewer tags than words is a fault. Raises ValueError
    for a file that cannot be read and for a column that a line lacks. `suffix` stands for that of the file.
    """
    suffix = suffix or path.suffix.lower()
    if suffix in JSON_LINES:
        return _read_lists(key, path, config, faults, labelled=labelled, suffix=suffix)
    return _read_columns(key, path, config, faults, labelled=labelled)


def _read_columns(
    key: str, path: Path, config: TaggingConfig, faults: Faults, *, labelled: bool
) -> Iterator[TaggedWords]:
    wanted = {"task.word_column": config.word_column} | ({"task.tag_column": config.tag_column} if labelled else {})
    rows: list[tuple[Place, list[str]]] = []
    for number, line in enumerate(chain(read_lines(key, path), [""]), start=1):
        line = line.rstrip("\r\n")
        if config.comment_prefix is not None and line.startswith(config.comment_prefix):
            continue
        if line.strip() and not line.startswith(DOCUMENT_START):
            place = at_line(path, number)
            # Tabs separate where there are any: words may hold blanks then.
            fields = line.split("\t") if "\t" in line else line.split()
            rows.append((place, _require_columns(place, fields, wanted)))
        elif rows:
            yield from _checked(_sentence(rows, config, labelled=labelled), faults)
            rows = []


def _require_columns(place: Place, fields: list[str], wanted: dict[str, int]) -> list[str]:
    for key, column in wanted.items():
        if not -len(fields) <= column < len(fields):
            raise ValueError(
                f"{place}: {key}={column} does not exist, the line has {len(fields)} columns: {fields}; count from 0, "
                "or from the last one as -1; if it is a comment, set task.comment_prefix"
            )
    if len(wanted) == 2 and len({column % len(fields) for column in wanted.values()}) == 1:
        raise ValueError(
            f"{place}: word and tag are the same column, the line has {len(fields)}: {fields}; it lacks a tag, or is a "
            "comment: set task.comment_prefix"
        )
    return fields


def _sentence(rows: list[tuple[Place, list[str]]], config: TaggingConfig, *, labelled: bool) -> TaggedWords:
    return TaggedWords(
        places=[place for place, _ in rows],
        words=[fields[config.word_column].strip() for _, fields in rows],
        tags=[fields[config.tag_column].strip() for _, fields in rows] if labelled else None,
    )


def _read_lists(
    key: str, path: Path, config: TaggingConfig, faults: Faults, *, labelled: bool, suffix: str
) -> Iterator[TaggedWords]:
    columns = {"task.words_key": config.words_key} | ({"task.tags_key": config.tags_key} if labelled else {})
    for place, row in read_table(key, path, columns, faults, suffix=suffix):
        wrong = [name for name in columns.values() if not _is_list_of_strings(row[name])]
        if wrong:
            faults.report(place, f"field {wrong[0]!r} is not a list of strings")
            continue
        words = row[config.words_key]
        tags = row[config.tags_key] if labelled else None
        yield from _checked(TaggedWords(places=[place] * max(len(words), 1), words=words, tags=tags), faults)


def _checked(sentence: TaggedWords, faults: Faults) -> Iterator[TaggedWords]:
    empty = [number for number, word in enumerate(sentence.words) if not word.strip()]
    if not sentence.words:
        faults.report(sentence.places[0], "the sentence has no words; remove it")
    elif empty:
        faults.report(sentence.places[empty[0]], f"word {empty[0] + 1} of the sentence is empty; remove or mend it")
    elif sentence.tags is not None and len(sentence.tags) != len(sentence.words):
        faults.report(
            sentence.places[0], f"{len(sentence.words)} words but {len(sentence.tags)} tags; each word needs one"
        )
    else:
        yield sentence


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
