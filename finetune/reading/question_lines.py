"""JSON Lines with a question and a context each -> questions, as they come, without the whole file in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.reading.faults import Faults, Place
from finetune.reading.squad import Question, find_fault, read_answers, typed
from finetune.reading.tables import read_table

QUESTION, CONTEXT, ANSWERS = "question", "context", "answers"


def read_question_lines(key: str, path: Path, faults: Faults, *, no_answer: bool, labelled: bool) -> Iterator[Question]:
    """Yield the questions of JSON Lines with `question`, `context`, perhaps `id` (else the line), and `answers`.

    Answers are a list of `{"text", "answer_start"}` as in SQuAD, or `{"text": […], "answer_start": […]}` as in the data
    sets of Hugging Face. Faults are those of `read_squad`, but an id may occur twice.
    """
    columns = {name: name for name in (QUESTION, CONTEXT, *([ANSWERS] if labelled else []))}
    for place, row in read_table(key, path, columns, faults, suffix=".jsonl"):
        try:
            question = _question(place, row, labelled=labelled)
        except (KeyError, TypeError, ValueError) as error:
            faults.report(place, f"not a question ({type(error).__name__}: {error}); see docs/finetune_more.md")
            continue
        needs_answer = labelled and not no_answer
        fault = find_fault(question, set(), needs_answer=needs_answer)
        if fault:
            faults.report(place, fault)
        else:
            yield question


def _question(place: Place, row: dict[str, Any], *, labelled: bool) -> Question:
    answers = row[ANSWERS] if labelled else []
    if isinstance(answers, dict):
        pairs = zip(typed(list, answers["text"]), typed(list, answers["answer_start"]), strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in pairs]
    name = str(row.get("id", place.where))
    return Question(place, name, typed(str, row[QUESTION]), typed(str, row[CONTEXT]), read_answers(answers))
