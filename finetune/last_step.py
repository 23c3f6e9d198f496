"""A Trainer whose last step of an epoch has every input once, on any number of ranks.

Ranks must make the same number of micro-batches. Where inputs do not suffice, accelerate repeats those that the epoch
began with, and the Trainer trains on them twice.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from finetune.label_alignment import IGNORE_INDEX

_REPEATED = "repeated"


class WholeEpochTrainer(Trainer):
    """Leaves out of the loss, and of the count that divides it, what accelerate repeats."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int | None]:
        """Return the micro-batches of this rank's next step, and the labels of the step over all ranks."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        micro = self.args.per_device_train_batch_size
        features: Any = self.train_dataset  # a list, which has a length
        left = len(features) % (micro * self.args.world_size)
        if self.args.world_size == 1 or left == 0 or not self.accelerator.gradient_state.end_of_dataloader:
            return batches, count
        batches[-1] = first_rows(batches[-1], max(0, min(micro, left - micro * self.args.process_index)))
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        """Return the loss; of a micro-batch of repeated inputs only it is zero, and so are its gradients."""
        repeated = inputs.pop(_REPEATED, False)
        loss = super().compute_loss(model, inputs, *arguments, **named)
        return loss * 0 if repeated else loss


def first_rows(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the first rows of a batch of tensors. Of none, which no model takes, it is a row whose loss is dropped."""
    kept = {name: rows[: max(1, count)] for name, rows in batch.items()}
    if count == 0:
        kept |= {"labels": torch.full_like(kept["labels"], IGNORE_INDEX), _REPEATED: True}
    return kept
