"""Scores of classification, regression and tagging, by scikit-learn, SciPy and seqeval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import accuracy_score as tag_accuracy
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as entity_scores
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    matthews_corrcoef,
    mean_squared_error,
    precision_score,
    recall_score,
)

IntArray = NDArray[np.int64]


def binary_scores(gold: IntArray, predicted: IntArray, positive: int) -> dict[str, float]:
    """Return accuracy, Matthews' correlation, F1 over both labels, and precision, recall and F1 of label `positive`."""
    of_positive: dict[str, Any] = {"pos_label": positive, "zero_division": 0}
    return multi_class_scores(gold, predicted) | {
        "precision": float(precision_score(gold, predicted, **of_positive)),
        "recall": float(recall_score(gold, predicted, **of_positive)),
        "f1": float(f1_score(gold, predicted, **of_positive)),
    }


def multi_class_scores(gold: IntArray, predicted: IntArray) -> dict[str, float]:
    """Return accuracy (with one label each, micro F1 is the same), macro F1 and Matthews' correlation.

    The macro mean is over the labels that occur among gold or predicted ones; the correlation is 0 where only one does.
    """
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
        "mcc": float(matthews_corrcoef(gold, predicted)) if len({*gold, *predicted}) > 1 else 0.0,
    }


def multi_label_scores(gold: IntArray, predicted: IntArray) -> dict[str, float]:
    """Return micro and macro F1 and the share of examples with all labels right; 0 or 1 in [examples, labels]."""
    return {
        "micro_f1": float(f1_score(gold, predicted, average="micro", zero_division=0)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(gold, predicted)),
    }


def regression_scores(gold: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation, 0 where either side is constant, and the mean squared error."""
    constant = len(gold) < 2 or np.ptp(gold) == 0 or np.ptp(predicted) == 0
    return {
        "pearson": 0.0 if constant else float(pearsonr(gold, predicted).statistic),
        "spearman": 0.0 if constant else float(spearmanr(gold, predicted).statistic),
        "mse": float(mean_squared_error(gold, predicted)),
    }


def tagging_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 of whole entities (micro, as conlleval), and the accuracy of tags."""
    precision, recall, f1, _ = entity_scores(
        [list(tags) for tags in gold], [list(tags) for tags in predicted], average="micro", zero_division=0
    )
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float(tag_accuracy([list(tags) for tags in gold], [list(tags) for tags in predicted])),
    }
