"""Batch sizes, ranks and inputs -> micro-batches per step, steps per epoch, and when to evaluate."""

import math
from dataclasses import dataclass

from conf.checks import require
from finetune.config import EvaluationConfig, TrainingConfig


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many micro-batches of a rank make a step, how many steps there are, and how many until an evaluation."""

    micro_steps: int
    total_steps: int
    evaluate_every: int


def plan_steps(training: TrainingConfig, evaluation: EvaluationConfig, *, inputs: int, world_size: int) -> Schedule:
    """Return the schedule of a training over `inputs`. Raises ValueError when batch sizes or intervals do not fit."""
    step, micro = training.global_batch_size, training.micro_batch_size
    share = step // world_size
    require(
        step % world_size == 0,
        "training.global_batch_size",
        step,
        f"a multiple of the {world_size} ranks; nearest: {max(1, round(step / world_size)) * world_size}",
    )
    fits = [size for size in range(1, share + 1) if share % size == 0]
    require(
        share % micro == 0,
        "training.micro_batch_size",
        micro,
        f"it must divide the {share} inputs that a rank gives to a step; "
        f"nearest: {min(fits, key=lambda size: abs(size - micro))}",
    )
    per_epoch = math.ceil(math.ceil(inputs / world_size) / share)
    total = training.max_steps or math.ceil(training.epochs * per_epoch)
    every = evaluation.every or per_epoch
    require(every <= total or evaluation.every is None, "evaluation.every", every, f"at most the run's {total} steps")
    return Schedule(micro_steps=share // micro, total_steps=total, evaluate_every=min(every, total))
