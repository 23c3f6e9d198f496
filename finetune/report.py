"""Records of predictions with their labels -> scores, a report per class and confusions, as text, JSON and PNG."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetune.classes import ClassScores, Confusion, class_scores, confusion, entity_classes, label_confusions
from finetune.confusion_plot import plot_confusion
from finetune.metrics import (
    binary_scores,
    multi_class_scores,
    multi_label_scores,
    regression_scores,
    tagging_scores,
)
from finetune.results import Scores
from finetune.squad_metrics import squad_scores
from finetune.task_config import Kind
from finetune.tasks.classification import Classification
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.tagging import Tagging
from finetune.tasks.task import Task

TEXT_FILE, JSON_FILE, PLOT_FILE = "report.txt", "report.json", "confusion.png"


@dataclass(frozen=True, slots=True)
class Report:
    """What a model makes of a labelled file. Numbers have no classes; nor have answers, unless there may be none."""

    examples: int
    scores: Scores
    classes: list[ClassScores]
    confusion: Confusion | None

    def text(self) -> str:
        """Return the scores, a line per class, and who is taken for whom."""
        scores = "\n".join(f"{name:<24}{value:>9.4f}" for name, value in self.scores.items())
        blocks = [f"{self.examples:,} examples\n{scores}", _class_table(self.classes)]
        blocks += [] if self.confusion is None else [self.confusion.text()]
        return "\n\n".join(filter(None, blocks))


@dataclass(slots=True)
class Tally:
    """Labels and predictions of records as they come; nothing else of them is kept."""

    task: Task
    gold: list[Any] = field(default_factory=list)
    predicted: list[Any] = field(default_factory=list)

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        """Take the labels and predictions of a task's records."""
        names = {Classification: "label", Tagging: "tags", QuestionAnswering: "answers"}
        self.gold += [record[names[type(self.task)]] for record in records]
        self.predicted += [record["predicted"] for record in records]

    def report(self) -> Report:
        """Return the report over all records."""
        task, gold, predicted = self.task, self.gold, self.predicted
        if isinstance(task, Tagging):
            scores = tagging_scores(gold, predicted)
            return Report(len(gold), scores, *entity_classes(gold, predicted, task.labels))
        if isinstance(task, QuestionAnswering):
            return _of_answers(task, gold, predicted)
        assert isinstance(task, Classification)
        if task.config.kind is Kind.regression:
            return Report(len(gold), regression_scores(np.array(gold), np.array(predicted)), [], None)
        if task.config.kind is Kind.multi_label:
            truth, found = (_indicators(task.labels, rows) for rows in (gold, predicted))
            classes = class_scores(truth, found, task.labels)
            return Report(
                len(gold), multi_label_scores(truth, found), classes, label_confusions(truth, found, task.labels)
            )
        return _of_classes(task, gold, predicted)


def _of_classes(task: Classification, gold: list[str], predicted: list[str]) -> Report:
    numbers = {label: number for number, label in enumerate(task.labels)}
    truth, found = (np.array([numbers[label] for label in rows]) for rows in (gold, predicted))
    if task.config.kind is Kind.binary:
        scores = binary_scores(truth, found, numbers[task.positive_label])
    else:
        scores = multi_class_scores(truth, found)
    return Report(len(gold), scores, class_scores(truth, found, task.labels), confusion(gold, predicted, task.labels))


def _of_answers(task: QuestionAnswering, gold: list[list[str]], predicted: list[str]) -> Report:
    names = [str(number) for number in range(len(gold))]
    answers = dict(zip(names, gold, strict=True))
    scores = squad_scores(dict(zip(names, predicted, strict=True)), answers, task.config.scoring)
    if not task.config.no_answer:
        return Report(len(gold), scores, [], None)
    labels = ["answer", "no answer"]
    truth, found = ([labels[not one] for one in rows] for rows in (gold, predicted))
    numbers, guesses = (np.array([labels.index(one) for one in rows]) for rows in (truth, found))
    return Report(len(gold), scores, class_scores(numbers, guesses, labels), confusion(truth, found, labels))


def _indicators(labels: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    return np.array([[int(label in row) for label in labels] for row in rows])


def _class_table(classes: Sequence[ClassScores]) -> str:
    if not classes:
        return ""
    width = max(len("class"), *(len(one.label) for one in classes))
    lines = [f"{'class':<{width}}  precision     recall         f1    support"]
    lines += [
        f"{one.label:<{width}}  {one.precision:9.4f}  {one.recall:9.4f}  {one.f1:9.4f}  {one.support:9,}"
        for one in classes
    ]
    return "\n".join(lines)


def write_report(report: Report, directory: Path) -> None:
    """Write `report.txt`, `report.json` and, where there are classes, `confusion.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TEXT_FILE).write_text(report.text() + "\n", encoding="utf-8")
    content = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    (directory / JSON_FILE).write_text(content + "\n", encoding="utf-8")
    if report.confusion is not None:
        plot_confusion(report.confusion, directory / PLOT_FILE)
