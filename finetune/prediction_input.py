"""A file or standard input in any format of a task -> its examples, one after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from conf.checks import require
from finetune.reading.conll import read_tagged_words
from finetune.reading.faults import Faults
from finetune.reading.labelled_texts import LabelledText, read_labelled_texts
from finetune.reading.plain_text import cut_text, read_plain_texts
from finetune.reading.question_lines import ANSWERS, read_question_lines
from finetune.reading.squad import read_squad
from finetune.reading.tables import JSON_LINES, read_table
from finetune.reading.text_file import STANDARD_INPUT
from finetune.tasks.classification import Classification
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.tagging import Sentence, Tagging
from finetune.tasks.task import Task

KEY = "input"


class InputFormat(StrEnum):
    """How an input is written."""

    text = "text"  # a text per line
    csv = "csv"
    tsv = "tsv"
    jsonl = "jsonl"
    conll = "conll"
    squad = "squad"


FORMATS: dict[type[Any], dict[InputFormat, tuple[str, ...]]] = {
    Classification: {
        InputFormat.csv: (".csv",),
        InputFormat.tsv: (".tsv",),
        InputFormat.jsonl: JSON_LINES,
        InputFormat.text: (".txt",),
    },
    Tagging: {
        InputFormat.jsonl: JSON_LINES,
        InputFormat.text: (),
        InputFormat.conll: ("",),  # any other suffix, as in training
    },
    QuestionAnswering: {InputFormat.squad: (".json",), InputFormat.jsonl: JSON_LINES},
}
"""The formats that each task takes, and the suffixes that say so."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is read, how it is written, and whether its labels are."""

    path: Path
    format: InputFormat
    labelled: bool

    @property
    def suffix(self) -> str:
        """The suffix of the format, which the readers go by."""
        return f".{self.format.value}"


def find_source(task: Task, path: str, wanted: InputFormat | None, labelled: bool | None) -> Source:
    """Return the source that `input`, `format` and `labelled` mean; "-" is standard input.

    Raises ValueError when the task does not take the format, or the format has no labels.
    """
    where = STANDARD_INPUT if path == "-" else Path(path)
    how = wanted or _format_of(task, where)
    allowed = FORMATS[type(task)]
    require(how in allowed, "format", how.value, f"this model takes {', '.join(allowed)}")
    require(how is not InputFormat.text or not labelled, "labelled", labelled, "lines of text have no labels")
    if how is InputFormat.text and isinstance(task, Classification) and task.config.pair_column is not None:
        raise ValueError("format=text is not valid: this model takes pairs of texts; give a table with both")
    if labelled is None:
        labelled = (
            where != STANDARD_INPUT and how is not InputFormat.text and _has_labels(task, Source(where, how, True))
        )
    return Source(where, how, labelled)


def _format_of(task: Task, path: Path) -> InputFormat:
    allowed = FORMATS[type(task)]
    if path == STANDARD_INPUT:
        return InputFormat.text if InputFormat.text in allowed else InputFormat.jsonl
    for how, suffixes in allowed.items():
        if path.suffix.lower() in suffixes or "" in suffixes:
            return how
    known = ", ".join(suffix for suffixes in allowed.values() for suffix in suffixes)
    raise ValueError(f"{KEY}={path} has none of the suffixes {known}; rename it, or say format={'|'.join(allowed)}")


def _has_labels(task: Task, source: Source) -> bool:
    """Return whether the first row, sentence or question of a file has what the task's labels are read from.

    Raises ValueError for JSON Lines whose first row has no label and a later one has: neither answer is right then.
    """
    unheard = Faults(skip=True)
    if isinstance(task, QuestionAnswering) and source.format is InputFormat.squad:
        found = read_squad(KEY, source.path, unheard, no_answer=True, labelled=True)
        return any(question.answers for question in found)
    if source.format is InputFormat.conll:
        assert isinstance(task, Tagging)
        try:
            next(read_tagged_words(KEY, source.path, task.config, unheard, labelled=True), None)
        except ValueError:
            return False
        return True
    field, rows = _label_field(task), read_table(KEY, source.path, {}, unheard, suffix=source.suffix)
    first, row = next(rows, (None, {}))
    if field in row or source.format is not InputFormat.jsonl:
        return field in row
    place = next((place for place, row in rows if field in row), None)
    if place is not None:
        raise ValueError(
            f"{place}: a row with the label field {field!r}, which {first} has not; say labelled=false to leave the "
            "labels unread, or labelled=true to score what has one (on_error=skip leaves out the others)"
        )
    return False


def _label_field(task: Task) -> str:
    if isinstance(task, Classification):
        return task.config.label_column
    return task.config.tags_key if isinstance(task, Tagging) else ANSWERS


def read_examples(task: Task, source: Source, faults: Faults) -> Iterator[Any]:
    """Yield the examples of a source as the task encodes them, in order; few of them are in memory.

    SQuAD JSON is one document, which is read whole. What cannot be used is a fault.
    """
    path, labelled = source.path, source.labelled
    if isinstance(task, Classification):
        if source.format is InputFormat.text:
            return (LabelledText(place, text, None, None) for place, text in read_plain_texts(KEY, path, faults))
        suffix = source.suffix
        rows = read_labelled_texts(KEY, path, task.config, faults, labelled=labelled, suffix=suffix)
        return task.check(rows, faults)
    if isinstance(task, Tagging):
        if source.format is InputFormat.text:
            return _sentences(task, path, faults)
        words = read_tagged_words(KEY, path, task.config, faults, labelled=labelled, suffix=source.suffix)
        return task.check(words, faults)
    assert isinstance(task, QuestionAnswering)
    read = read_squad if source.format is InputFormat.squad else read_question_lines
    return read(KEY, path, faults, no_answer=task.config.no_answer, labelled=labelled)


def _sentences(task: Tagging, path: Path, faults: Faults) -> Iterator[Sentence]:
    for place, text in read_plain_texts(KEY, path, faults):
        words, spans = cut_text(text, by_character=task.config.by_character)
        yield Sentence([place] * len(words), words, None, text, spans)
