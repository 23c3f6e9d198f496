"""Texts or pairs of texts -> a label, several labels or a number."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from conf.checks import require
from finetune.class_weights import label_weights, positive_weights, require_known
from finetune.losses import binary_cross_entropy, cross_entropy, squared_error
from finetune.metrics import binary_scores, multi_class_scores, multi_label_scores, regression_scores
from finetune.reading.faults import Faults
from finetune.reading.labelled_texts import LabelledText, read_labelled_texts
from finetune.task_config import ClassificationConfig, Kind
from finetune.tasks.task import Encoded, Feature, Logits, LossFunction

METRICS = {
    Kind.binary: ("accuracy", "f1", "precision", "recall", "macro_f1", "mcc"),
    Kind.multi_class: ("accuracy", "macro_f1", "mcc"),
    Kind.multi_label: ("micro_f1", "macro_f1", "accuracy"),
    Kind.regression: ("pearson", "spearman", "mse"),
}
"""By kind; the first chooses the checkpoint."""

PROBLEM_TYPES = {
    Kind.binary: "single_label_classification",
    Kind.multi_class: "single_label_classification",
    Kind.multi_label: "multi_label_classification",
    Kind.regression: "regression",
}

THRESHOLD = 0.5
"""Multi-label: probability from which on a label is given."""


class Classification:
    """Sequence classification and regression; labels are strings, sorted (numbers by value)."""

    auto_class = AutoModelForSequenceClassification

    def __init__(self, config: ClassificationConfig, labels: Sequence[str] = ()) -> None:
        self.config = config
        self.labels = list(labels)
        self.metrics = METRICS[config.kind]
        self.metric = self.metrics[0]

    def read(self, key: str, path: Path, faults: Faults) -> list[LabelledText]:
        """Return the rows of a file; with known labels, one that has another is a fault."""
        return list(self.check(read_labelled_texts(key, path, self.config, faults, labelled=True), faults))

    def check(self, rows: Iterable[LabelledText], faults: Faults) -> Iterator[LabelledText]:
        """Yield the rows whose labels are known, or all where none is known yet; the others are faults."""
        for example in rows:
            unknown = sorted(set(names_of(example)) - set(self.labels)) if self.labels else []
            if unknown:
                known = ", ".join(self.labels)
                faults.report(example.place, f"label {unknown[0]!r} does not occur in train_file, which has {known}")
            else:
                yield example

    def learn_labels(self, train: Sequence[LabelledText]) -> None:
        """Take the labels of the training file. Raises ValueError when the config does not fit them."""
        kind, found = self.config.kind, sorted({name for example in train for name in names_of(example)}, key=_order)
        shown = ", ".join(found[:20])
        need = {Kind.regression: 0, Kind.multi_label: 1}.get(kind, 2)
        require(len(found) >= need, "task.kind", kind.value, f"train_file has the labels: {shown or 'none'}")
        binary = kind is Kind.binary
        require(len(found) == 2 or not binary, "task.kind", kind.value, f"train_file has {len(found)} labels: {shown}")
        positive = self.config.positive_label
        require(positive is None or positive in found, "task.positive_label", positive, f"one of {shown}")
        require_known(self.config.label_weights, found)
        self.labels = found

    def head_settings(self) -> dict[str, Any]:
        """Return the settings of the head: one output for a number, else one per label."""
        names = self.labels or ["value"]
        return {
            "problem_type": PROBLEM_TYPES[self.config.kind],
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
        }

    def encode(self, examples: Sequence[LabelledText], tokenizer: Any, max_length: int, faults: Faults) -> Encoded:
        """Return one feature per example; what does not fit is a fault, or with `truncate` loses its end.

        Of a pair the longer text is cut first.
        """
        kept: list[LabelledText] = []
        features: list[Feature] = []
        long = 0
        for example in examples:
            fitted = tokenizer(example.text, example.pair, truncation=True, max_length=max_length)
            is_long = bool(fitted.encodings[0].overflowing)
            if is_long and not self.config.truncate:
                tokens = len(tokenizer(example.text, example.pair, verbose=False)["input_ids"])
                what = "the text has" if example.pair is None else "the two texts have"
                faults.report(
                    example.place,
                    f"{what} {tokens:,} tokens with the special ones, more than max_length={max_length}; shorten it, "
                    "or have it cut by task.truncate=true, in finetune.predict truncate=true",
                )
                continue
            long += is_long
            feature = dict(fitted)
            if example.label is not None:
                feature["labels"] = self._target(example.label)
            kept.append(example)
            features.append(feature)
        return Encoded(kept, features, [None] * len(kept), long, f"texts are cut at {max_length} tokens")

    def collator(self, tokenizer: Any) -> Any:
        """Return what pads a batch to its longest text."""
        return DataCollatorWithPadding(tokenizer)

    def loss(self, train: Encoded) -> LossFunction:
        """Return cross-entropy (softmax or one per label) or squared error, weighted as the config says."""
        config = self.config
        if config.kind is Kind.regression:
            return squared_error()
        counts = Counter(name for example in train.examples for name in names_of(example))
        each = [counts[label] for label in self.labels]
        if config.kind is Kind.multi_label:
            total = len(train.examples)
            weights = positive_weights(config.class_weights, config.label_weights, self.labels, each, total)
            return binary_cross_entropy(weights)
        return cross_entropy(label_weights(config.class_weights, config.label_weights, self.labels, each))

    def scores(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Return the metrics of `METRICS` over all examples."""
        gold = np.array([self._target(example.label) for example in encoded.examples])
        kind, outputs = self.config.kind, logits[0]
        if kind is Kind.regression:
            return regression_scores(gold, outputs[:, 0].astype(np.float64))
        if kind is Kind.multi_label:
            return multi_label_scores(gold.astype(np.int64), (expit(outputs) >= THRESHOLD).astype(np.int64))
        predicted = outputs.argmax(-1)
        if kind is Kind.binary:
            return binary_scores(gold, predicted, self.labels.index(self.positive_label))
        return multi_class_scores(gold, predicted)

    def decode(self, logits: Logits, encoded: Encoded) -> list[dict[str, Any]]:
        """Return, per example, its line, its label, the predicted one, and every label's probability."""
        return [
            {"at": str(example.place), "text": example.text, "pair": example.pair, "label": example.label}
            | self._describe(outputs.astype(np.float64))
            for example, outputs in zip(encoded.examples, logits[0], strict=True)
        ]

    @property
    def positive_label(self) -> str:
        """The label whose precision, recall and F1 a binary task reports."""
        return self.config.positive_label or self.labels[-1]

    def _target(self, label: Any) -> Any:
        if self.config.kind is Kind.regression:
            return label
        if self.config.kind is Kind.multi_label:
            return [float(name in label) for name in self.labels]
        return self.labels.index(label)

    def _describe(self, outputs: NDArray[np.float64]) -> dict[str, Any]:
        if self.config.kind is Kind.regression:
            return {"predicted": float(outputs[0])}
        several = self.config.kind is Kind.multi_label
        values = expit(outputs) if several else softmax(outputs)
        named = dict(zip(self.labels, map(float, values), strict=True))
        likely = [label for label in self.labels if named[label] >= THRESHOLD]
        return {"predicted": likely if several else self.labels[int(outputs.argmax())], "probabilities": named}


def names_of(example: LabelledText) -> list[str]:
    """Return the labels of an example: one, several, or none for a number."""
    if isinstance(example.label, list):
        return example.label
    return [example.label] if isinstance(example.label, str) else []


def _order(label: str) -> tuple[bool, float, str]:
    """Sort key: whole numbers by value, before all others by spelling."""
    number = label.lstrip("-").isdecimal()
    return not number, float(label) if number else 0.0, label
