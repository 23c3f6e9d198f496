"""The teacher at work: frozen, whole on each rank, no part of the engine, of ZeRO or of checkpoints."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.config import Kernels
from pretrain.data.batch import MicroBatch
from pretrain.data.feed import StepCounts
from pretrain.distillation.directory import TeacherDirectory, read_model, require_unchanged
from pretrain.distillation.losses import DistillationLosses, distillation_sums, distilled_loss
from pretrain.distillation_config import DistillationConfig
from pretrain.engine_config import Precision
from pretrain.model.bert import BertForPretraining, PretrainingLogits
from pretrain.objective import BatchLosses
from pretrain.track.metrics import Record

DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """What a student learns from, and how much of it. The model draws no random number: it has no dropout."""

    model: BertForPretraining
    config: DistillationConfig

    @torch.no_grad()
    def targets(self, batch: MicroBatch) -> PretrainingLogits:
        """Return what the teacher computes of a micro-batch: scores at masked positions, and compared hidden states."""
        output: PretrainingLogits = self.model(batch)
        return output

    def loss_sums(self, student: PretrainingLogits, batch: MicroBatch) -> DistillationLosses:
        """Return how far a student's output for a micro-batch is from the targets."""
        return distillation_sums(student, self.targets(batch), temperature=self.config.temperature)

    def loss(self, hard: BatchLosses, imitation: DistillationLosses, counts: StepCounts) -> Tensor:
        """Return what to differentiate, from the sums of one micro-batch and the step's counts."""
        return distilled_loss(
            hard,
            imitation,
            self.config,
            masked_tokens=counts.masked_tokens,
            pairs=counts.pairs,
            tokens=counts.tokens,
        )

    def metrics(self, soft_loss: float, hidden_loss: float, counts: StepCounts) -> Record:
        """Return `distillation_loss` and, where hidden states are compared, `hidden_loss`: means, from global sums."""
        record: Record = {}
        if counts.masked_tokens:
            record["distillation_loss"] = soft_loss / counts.masked_tokens
        if self.config.hidden_weight > 0:
            record["hidden_loss"] = hidden_loss / counts.tokens
        return record


def load_teacher(
    found: TeacherDirectory | None,
    config: DistillationConfig,
    kernels: Kernels,
    precision: Precision,
    device: torch.device,
) -> Teacher | None:
    """Return the teacher on `device`, in the run's precision; None without one.

    Raises ValueError as `read_model`, and when the file is not the one that was found.
    """
    if found is None:
        return None
    require_unchanged(found)
    model = read_model(found, kernels).to(device, DTYPES[precision])
    return Teacher(model=model.requires_grad_(False).eval(), config=config)
