"""A fine-tuned model and inputs -> its outputs, without a Trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune.config import Precision
from finetune.tasks.task import Encoded, Feature, Logits, Task

OUTPUTS = ("logits", "start_logits", "end_logits")


class Predictor:
    """A model on a GPU, or on the CPU where there is none, in eval mode."""

    def __init__(self, directory: Path, task: Task, tokenizer: Any, *, batch_size: int, precision: Precision) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = task.auto_class.from_pretrained(directory, dtype=torch.float32).to(self.device).eval()
        self.collate = task.collator(tokenizer)
        self.names = set(tokenizer.model_input_names)
        self.batch_size = batch_size
        self.bf16 = precision is Precision.bf16

    def logits(self, encoded: Encoded) -> Logits:
        """Return the outputs over all features in their order; inputs of like length share a batch."""
        order = np.argsort([len(feature["input_ids"]) for feature in encoded.features], kind="stable")
        rows: list[list[Tensor]] = [[] for _ in encoded.features]
        for first in range(0, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size].tolist()
            outputs = self._forward([encoded.features[number] for number in chosen])
            for place, number in enumerate(chosen):
                rows[number] = [output[place] for output in outputs]
        return [
            torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True).numpy()
            for column in zip(*rows, strict=True)
        ]

    def _forward(self, features: Sequence[Feature]) -> list[Tensor]:
        inputs = [{name: value for name, value in feature.items() if name in self.names} for feature in features]
        batch = self.collate(inputs).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outputs = self.model(**batch)
        return [outputs[name].float().cpu() for name in OUTPUTS if name in outputs]
