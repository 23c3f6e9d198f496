"""Labels and predictions -> precision, recall and F1 of every class, and who is taken for whom, by scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as entity_scores
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_recall_fscore_support

from finetune.results import align

IntArray = NDArray[np.int64]

MAX_TABLE = 20
"""A matrix of more classes is listed by its largest confusions instead."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Of one class; `support` is how often it is the label."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """`counts[row][column]`: how often what is `rows[row]` was taken for `columns[column]`."""

    rows: list[str]
    columns: list[str]
    counts: list[list[int]]

    def text(self) -> str:
        """Return the matrix, or of a large one the most frequent confusions."""
        if len(self.rows) > MAX_TABLE:
            return self._largest()
        cells = [
            ["", *self.columns],
            *([row, *map(str, counts)] for row, counts in zip(self.rows, self.counts, strict=True)),
        ]
        return "\n".join(["label \\ predicted", align(cells)])

    def _largest(self) -> str:
        mistakes = [
            (count, row, column)
            for row, counts in zip(self.rows, self.counts, strict=True)
            for column, count in zip(self.columns, counts, strict=True)
            if count and row != column
        ]
        mistakes.sort(key=lambda mistake: -mistake[0])
        lines = [f"{count:6,}  {row} taken for {column}" for count, row, column in mistakes[:MAX_TABLE]]
        return "\n".join(["most frequent confusions", *lines])


def class_scores(gold: IntArray, predicted: IntArray, labels: Sequence[str]) -> list[ClassScores]:
    """Return the scores of each label: of its numbers [examples], or of its indicators [examples, labels]."""
    values = precision_recall_fscore_support(gold, predicted, labels=range(len(labels)), zero_division=0)
    return _by_class(labels, values)


def _by_class(labels: Sequence[str], values: Sequence[Any]) -> list[ClassScores]:
    columns = zip(*(column.tolist() for column in values), strict=True)
    return [ClassScores(label, *column) for label, column in zip(labels, columns, strict=True)]


def confusion(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Confusion:
    """Return the matrix of one label per example."""
    return Confusion(list(labels), list(labels), confusion_matrix(gold, predicted, labels=list(labels)).tolist())


def label_confusions(gold: IntArray, predicted: IntArray, labels: Sequence[str]) -> Confusion:
    """Return, for indicators [examples, labels], how often each label was found, missed, or given wrongly."""
    matrices = multilabel_confusion_matrix(gold, predicted)
    counts = [[int(one[1, 1]), int(one[1, 0]), int(one[0, 1])] for one in matrices]
    return Confusion(list(labels), ["found", "missed", "wrong"], counts)


def entity_classes(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[list[ClassScores], Confusion]:
    """Return the scores of whole entities by type, and the matrix of types word by word, O among them."""
    types = [label[2:] for label in labels if label.startswith("B-")]
    truth, found = ([list(tags) for tags in rows] for rows in (gold, predicted))
    seen = sorted({tag[2:] for tags in (*truth, *found) for tag in tags} - {""})  # seqeval's order, and all it scores
    values = entity_scores(truth, found, average=None, zero_division=0) if seen else ()
    scored = {one.label: one for one in _by_class(seen, values)} if seen else {}
    classes = [scored.get(kind, ClassScores(kind, 0.0, 0.0, 0.0, 0)) for kind in types]
    words = [[tag[2:] or "O" for tags in rows for tag in tags] for rows in (truth, found)]
    return classes, confusion(words[0], words[1], ["O", *types])
