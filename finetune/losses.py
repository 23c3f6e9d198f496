"""Losses over a whole optimizer step, however it is cut into micro-batches and ranks; labels may weigh differently.

The Trainer (transformers 5.23) takes a BERT's own mean per micro-batch for a share of the step's mean, because its
`forward` takes keyword arguments: the gradient would be too large by the number of micro-batches. Where there are no
`labels`, as of questions, it takes the mean of micro-batches, small ones like large ones. These divide the sum by the
labels of the step, which the Trainer counts over all ranks.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from finetune.label_alignment import IGNORE_INDEX
from finetune.tasks.task import LossFunction


def cross_entropy(weights: Sequence[float] | None) -> LossFunction:
    """Return Σ wᵧ · cross-entropy / number of labels, of labels other than IGNORE_INDEX; null weights are 1."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        logits = outputs["logits"].float()
        total = F.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            weight=_like(logits, weights),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
        )
        return total / _count(labels, num_items_in_batch)

    return loss


def binary_cross_entropy(positive_weights: Sequence[float] | None) -> LossFunction:
    """Return the mean over examples and labels of the binary cross-entropy; positive ones weigh `positive_weights`."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        logits = outputs["logits"].float()
        weights = _like(logits, positive_weights)
        total = F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights, reduction="sum")
        return total / _count(labels, num_items_in_batch)

    return loss


def squared_error() -> LossFunction:
    """Return the mean squared error of one output per example."""

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        total = F.mse_loss(outputs["logits"].float().squeeze(-1), labels.float(), reduction="sum")
        return total / _count(labels, num_items_in_batch)

    return loss


def span_cross_entropy() -> LossFunction:
    """Return the mean over windows of the cross-entropies of start and end, which are among a window's own tokens.

    Padding is none of them: how much there is depends on the other windows of a micro-batch. Labels are [windows, 3]:
    start, end, and how many tokens the window has.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None) -> Tensor:
        logits = torch.stack((outputs["start_logits"], outputs["end_logits"]), dim=1).float()
        padding = torch.arange(logits.shape[-1], device=logits.device) >= labels[:, 2:]
        logits = logits.masked_fill(padding.unsqueeze(1), -torch.inf)
        total = F.cross_entropy(logits.flatten(0, 1), labels[:, :2].flatten(), reduction="sum")
        return total / (_count(labels, num_items_in_batch) * 2 / 3)  # a window has two labels that count, of three

    return loss


def _like(logits: Tensor, weights: Sequence[float] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)


def _count(labels: Tensor, of_step: Tensor | None) -> Tensor:
    """Return the labels of the whole step, or of this batch in an evaluation (at least 1)."""
    return labels.ne(IGNORE_INDEX).sum().clamp(min=1) if of_step is None else of_step
