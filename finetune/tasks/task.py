"""What the entry asks of a task: examples of files, inputs for the model, scores and predictions from logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetune.reading.faults import Faults

Feature = dict[str, Any]
"""One input of the model: `input_ids`, `attention_mask`, …, and labels where the file has them."""

Logits = Sequence[NDArray[np.float32]]
"""The model's outputs over all features in their order, padded at the end of the token axis: one array, or two."""

LossFunction = Callable[..., Any]
"""`(outputs, labels, num_items_in_batch=None) -> scalar`, as the Trainer calls it."""

LOWER_IS_BETTER = ("loss", "mse")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The inputs made of a file's examples. `spans` says, feature by feature, what a task needs to go back."""

    examples: list[Any]
    features: list[Feature]
    spans: list[Any]
    long: int  # examples that do not fit max_length as they are
    fate: str  # what becomes of them, with a verb

    @property
    def note(self) -> str:
        """What a user should know of how the examples fit max_length; may be empty."""
        return f"{self.long:,} of {len(self.examples):,} {self.fate}" if self.long else ""


class Task(Protocol):
    """A task with its config and its labels. A label is known once `labels` is set: by `learn_labels`, or on reload."""

    labels: list[str]
    auto_class: Any
    """The class of transformers that loads the model with this task's head."""
    metric: str
    """What chooses the checkpoint unless `evaluation.metric` does."""
    metrics: tuple[str, ...]
    """The names that `scores` gives in any case; `evaluation.metric` is one of them, or `loss`."""

    def read(self, key: str, path: Path, faults: Faults) -> list[Any]:
        """Return the examples of a file that `key` names. With known labels, an unknown one is a fault."""

    def learn_labels(self, train: Sequence[Any]) -> None:
        """Set `labels` from the examples of the training file, and check the config's words about labels."""

    def head_settings(self) -> dict[str, Any]:
        """Return what the model's config must say of the head: `id2label`, `problem_type`, …."""

    def encode(self, examples: Sequence[Any], tokenizer: Any, max_length: int, faults: Faults) -> Encoded:
        """Return the model's inputs, none longer than `max_length` tokens; examples that cannot fit are faults."""

    def collator(self, tokenizer: Any) -> Any:
        """Return what pads features to a batch of tensors."""

    def loss(self, train: Encoded) -> LossFunction:
        """Return the loss of `logits` and `labels`, weighted by the labels of `train` if asked for."""

    def scores(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Return the metrics of the whole file."""

    def decode(self, logits: Logits, encoded: Encoded) -> list[dict[str, Any]]:
        """Return one JSON object per example: where it stands, what it should be and what is predicted."""
