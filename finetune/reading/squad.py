"""SQuAD 1.1 or 2.0 JSON -> questions with their contexts and checked answers (Rajpurkar et al. 2016, 2018)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from finetune.reading.faults import Faults, Place
from finetune.reading.text_file import read_text_file

Value = TypeVar("Value")


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

    Faults are empty questions and contexts, an id that occurs twice, answers that do not stand at their offsets, and,
    unless `no_answer`, questions without answers. Raises ValueError for a file that is not SQuAD JSON.
    """
    seen: set[str] = set()
    for question, needs_answer in _parse(key, path, labelled=labelled):
        fault = find_fault(question, seen, needs_answer=needs_answer and not no_answer)
        seen.add(question.id)
        if fault:
            faults.report(question.place, fault)
        else:
            yield question


def _parse(key: str, path: Path, *, labelled: bool) -> Iterator[tuple[Question, bool]]:
    """Yield each question as it stands in the file, and whether it lacks an answer."""
    try:
        content = json.loads(read_text_file(key, path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {key} must be SQuAD JSON") from error
    count = 0
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for record in paragraph["qas"]:
                    count += 1
                    question = _question(path, paragraph["context"], record, labelled=labelled)
                    yield question, labelled and not question.answers
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}, question {max(count, 1)} of the file: not SQuAD JSON ({type(error).__name__}: {error}); it needs "
            '{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'
        ) from error
    if not count:
        raise ValueError(f"{key}={path} has no questions; name a file with some")


def _question(path: Path, context: Any, record: dict[str, Any], *, labelled: bool) -> Question:
    # SQuAD 2.0 lists plausible answers of impossible questions under another key, some derived sets under this one.
    answerable = labelled and not record.get("is_impossible", False)
    answers = record.get("answers", []) if answerable else []
    place = Place(str(path), f"question {record['id']}")
    found = [Answer(typed(str, answer["text"]), typed(int, answer["answer_start"])) for answer in answers]
    return Question(place, str(record["id"]), typed(str, record["question"]), typed(str, context), found)


def typed(kind: type[Value], value: Any) -> Value:
    """Return a value of JSON. Raises TypeError when it is of another kind."""
    if not isinstance(value, kind):
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
