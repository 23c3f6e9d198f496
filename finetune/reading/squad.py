"""SQuAD 1.1 or 2.0 JSON -> questions with their contexts and checked answers (Rajpurkar et al. 2016, 2018)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from finetune.reading.faults import Faults, Place
from finetune.reading.text_file import read_text_file

Value = TypeVar("Value")

FORM = '{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}'
_ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')


@dataclass(frozen=True, slots=True)
class Answer:
    """`context[start : start + len(text)]` is `text`."""

    text: str
    start: int  # in characters


@dataclass(frozen=True, slots=True)
class Question:
    """One question. No answers mean that the context has none, or that the file was read without labels."""

    place: Place
    id: str
    question: str
    context: str
    answers: list[Answer]


def read_squad(key: str, path: Path, faults: Faults, *, no_answer: bool, labelled: bool) -> Iterator[Question]:
    """Yield the questions of a file in its order.

    Faults are records that are no questions, empty questions and contexts, an id that occurs twice, answers that do not
    stand at their offsets, and, unless `no_answer`, questions without answers. They name the question and, in a file of
    several lines, the line of its id. Raises ValueError for a file that is not SQuAD JSON.
    """
    text = read_text_file(key, path)
    records = _records(key, path, _parse(key, path, text))
    lines_of_ids = _find_ids(text)
    seen: set[str] = set()
    for number, (paragraph, record) in enumerate(records, start=1):
        place = _place(path, number, record, lines_of_ids)
        try:
            question, needs_answer = _question(place, paragraph, record, labelled=labelled)
        except (KeyError, TypeError) as error:
            faults.report(place, f"not a question ({type(error).__name__}: {error}); it needs {FORM}")
            continue
        fault = find_fault(question, seen, needs_answer=needs_answer and not no_answer)
        seen.add(question.id)
        if fault:
            faults.report(place, fault)
        else:
            yield question


def _parse(key: str, path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {key} must be SQuAD JSON") from error


def _records(key: str, path: Path, content: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the paragraph and the record of each question as they stand in the file."""
    count = 0
    try:
        for article in typed(list, typed(dict, content)["data"]):
            for paragraph in typed(list, typed(dict, article)["paragraphs"]):
                for record in typed(list, typed(dict, paragraph)["qas"]):
                    count += 1
                    yield paragraph, record
    except (KeyError, TypeError) as error:
        where = f"{path}, after question {count}" if count else str(path)
        raise ValueError(f"{where}: not SQuAD JSON ({type(error).__name__}: {error}); it needs {FORM}") from error
    if not count:
        raise ValueError(f"{key}={path} has no questions; name a file with some")


def _find_ids(text: str) -> dict[str, list[int]]:
    """Return the lines (from 1) where each id stands, in their order; none of a text that is a single line."""
    found: dict[str, list[int]] = {}
    if "\n" not in text.strip():
        return found
    line, counted = 1, 0
    for match in _ID.finditer(text):
        line, counted = line + text.count("\n", counted, match.start()), match.start()
        found.setdefault(str(json.loads(match[1])), []).append(line)
    return found


def _place(path: Path, number: int, record: Any, lines_of_ids: dict[str, list[int]]) -> Place:
    """Return where a record stands, and take its line out of `lines_of_ids`: the next of its id is on another."""
    if not isinstance(record, dict) or "id" not in record:
        return Place(str(path), f"question {number} of the file")
    name = str(record["id"])
    lines = lines_of_ids.get(name)
    return Place(str(path), f"line {lines.pop(0)}, question {name}" if lines else f"question {name}")


def _question(place: Place, paragraph: dict[str, Any], record: Any, *, labelled: bool) -> tuple[Question, bool]:
    """Return a record as a question, and whether it lacks an answer. Raises KeyError and TypeError if it is none."""
    name, text, context = str(typed(dict, record)["id"]), typed(str, record["question"]), paragraph["context"]
    # SQuAD 2.0 lists plausible answers of impossible questions under another key, some derived sets under this one.
    answerable = labelled and not record.get("is_impossible", False)
    answers = read_answers(record.get("answers", []) if answerable else [])
    return Question(place, name, text, typed(str, context), answers), labelled and not answers


def read_answers(records: Any) -> list[Answer]:
    """Return the answers of a list of `{"text", "answer_start"}`. Raises KeyError and TypeError if it is none."""
    found = (typed(dict, record) for record in typed(list, records))
    return [Answer(typed(str, record["text"]), typed(int, record["answer_start"])) for record in found]


def typed(kind: type[Value], value: Any) -> Value:
    """Return a value of JSON. Raises TypeError when it is of another kind; true and false are no numbers."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} where {kind.__name__} is due")
    return value


def find_fault(question: Question, seen: set[str], *, needs_answer: bool) -> str:
    """Return what is wrong with a question, or nothing."""
    if not question.question.strip():
        return "the question is empty; remove or mend it"
    if not question.context.strip():
        return "the context is empty; remove or mend it"
    if question.id in seen:
        return "its id occurs twice, and predictions go by id; rename one"
    if needs_answer and not question.answers:
        return "it has no answer; set task.no_answer=true for files like SQuAD 2.0"
    for answer in question.answers:
        if not answer.text.strip():
            return "an answer is empty; remove it"
        found = question.context[answer.start : answer.start + len(answer.text)] if answer.start >= 0 else ""
        if found != answer.text:
            return _misplaced(question.context, answer, found)
    return ""


def _misplaced(context: str, answer: Answer, found: str) -> str:
    starts = [start for start in range(len(context)) if context.startswith(answer.text, start)]
    nearest = min(starts, key=lambda start: abs(start - answer.start), default=None)
    remedy = f"answer_start={nearest} would be right" if nearest is not None else "it stands nowhere in the context"
    return (
        f"the answer {answer.text!r} is not at answer_start={answer.start}, where the context has {found!r}; {remedy}"
    )
