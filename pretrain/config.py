"""The config of pretraining: one dataclass per section, checked when built; defaults are in `conf/pretrain.yaml`.

Enum members are lower case: OmegaConf looks a choice up by its name, and so one spelling serves YAML and code.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require
from pretrain.distillation_config import DistillationConfig
from pretrain.engine_config import EngineConfig, OptimizerConfig
from pretrain.model_config import RunModelConfig
from pretrain.tracking_config import ProfileConfig, TrackingConfig


class Kernels(StrEnum):
    """What computes layer norms, and the norms that LAMB and unsharded clipping need."""

    auto = "auto"  # apex where CUDA and apex are present, else torch
    apex = "apex"
    torch = "torch"


class OptimizerState(StrEnum):
    """What happens to moments and step counts when a phase starts; the first phase has none."""

    carry = "carry"
    reset = "reset"


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Batch sizes, in sequences. `num_streams` is the most ranks the run can ever have."""

    global_batch_size: int  # per optimizer step, over all ranks
    micro_batch_size: int  # per forward and backward of one rank
    num_streams: int

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "micro_batch_size", "num_streams"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "at least 1")
        streams, batch = self.num_streams, self.global_batch_size
        lower = batch // streams * streams
        near = f"{lower} or {lower + streams}" if lower else f"{streams}"
        require(
            batch % streams == 0,
            "data.global_batch_size",
            batch,
            f"each of the {streams} streams gives the same number of sequences to a step; nearest: {near}",
        )
        share, micro = batch // streams, self.micro_batch_size
        fits = [size for size in range(1, share + 1) if share % size == 0]
        require(
            share % micro == 0,
            "data.micro_batch_size",
            micro,
            f"it must divide the {share} sequences that a stream gives to a step "
            f"(global_batch_size / num_streams); nearest: {min(fits, key=lambda size: abs(size - micro))}",
        )


@dataclass(kw_only=True, slots=True)
class LrScheduleConfig:
    """Linear warmup to the peak, then `(1 - progress) ** power` down to `end_learning_rate`. Power 1 is linear."""

    warmup_steps: int
    power: float
    end_learning_rate: float

    def __post_init__(self) -> None:
        require(self.warmup_steps >= 0, "lr_schedule.warmup_steps", self.warmup_steps, "zero or more steps")
        require(self.power > 0, "lr_schedule.power", self.power, "above 0")
        end = self.end_learning_rate
        require(end >= 0, "lr_schedule.end_learning_rate", end, "zero or more")


@dataclass(kw_only=True, slots=True)
class PhaseConfig:
    """One stretch of a run with its own shards, batch sizes, steps and schedule."""

    name: str
    shards_dir: str
    max_steps: int
    learning_rate: float
    data: DataConfig
    lr_schedule: LrScheduleConfig
    optimizer_state: OptimizerState

    def __post_init__(self) -> None:
        require(self.max_steps >= 1, "max_steps", self.max_steps, "at least 1")
        rate = self.learning_rate
        require(0 < rate < math.inf, "optimizer.learning_rate", rate, "above 0 and finite")
        warmup = self.lr_schedule.warmup_steps
        require(
            warmup <= self.max_steps,
            "lr_schedule.warmup_steps",
            warmup,
            f"at most max_steps={self.max_steps}",
        )


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """When to save, in steps, which tags to keep, and whether the training waits for the disk."""

    save_every: int
    keep_last: int
    keep_every: int  # steps: tags at its multiples stay besides the last ones; 0 keeps none of them
    asynchronous: bool  # a thread writes; the training waits for the copy to CPU memory only

    def __post_init__(self) -> None:
        require(self.save_every >= 1, "checkpoint.save_every", self.save_every, "at least 1")
        require(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "at least 1")
        require(self.keep_every >= 0, "checkpoint.keep_every", self.keep_every, "zero (none) or more steps")


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """Held-out evaluation: every so many steps (0 turns it off), on at most `max_sequences` of the split."""

    every: int
    max_sequences: int

    def __post_init__(self) -> None:
        require(self.every >= 0, "evaluation.every", self.every, "zero (off) or more steps")
        require(self.max_sequences >= 1, "evaluation.max_sequences", self.max_sequences, "at least 1")


@dataclass(kw_only=True, slots=True)
class ResumeConfig:
    """Config keys (dotted) that may differ from the checkpoint's, besides those that always may."""

    allow: list[str]


@dataclass(kw_only=True, slots=True)
class PretrainConfig:
    """The root config; only the entry reads it whole.

    `shards_dir`, `max_steps`, `data` and `lr_schedule` make up the default phase; the loop reads `phases`.
    """

    shards_dir: str
    run_dir: str
    max_steps: int
    stop_after: int | None  # leave after this step of the run, as if preempted; the same command without it goes on
    max_minutes: float | None  # leave so long after the start of the process, as if preempted
    stop_exit_code: int  # of a process that leaves before the run is done
    seed: int
    max_bad_steps: int  # so many steps in a row without a finite loss and gradient end the run
    kernels: Kernels
    model: RunModelConfig
    distillation: DistillationConfig
    optimizer: OptimizerConfig
    lr_schedule: LrScheduleConfig
    data: DataConfig
    phases: list[PhaseConfig]
    engine: EngineConfig
    checkpoint: CheckpointConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig
    profile: ProfileConfig
    resume: ResumeConfig

    def __post_init__(self) -> None:
        require("://" not in self.run_dir, "run_dir", self.run_dir, "a folder on a file system, not a URL")
        require(self.seed >= 0, "seed", self.seed, "zero or a positive integer")
        require(self.max_bad_steps >= 1, "max_bad_steps", self.max_bad_steps, "at least 1")
        stop = self.stop_after
        require(stop is None or stop >= 1, "stop_after", stop, "null or at least 1 step")
        minutes, code = self.max_minutes, self.stop_exit_code
        require(minutes is None or minutes > 0, "max_minutes", minutes, "null or above 0")
        require(0 <= code <= 125, "stop_exit_code", code, "0 to 125")
        require(bool(self.phases), "phases", self.phases, "at least one phase")
        streams = {phase.data.num_streams for phase in self.phases}
        require(len(streams) == 1, "phases.*.data.num_streams", sorted(streams), "the same in every phase")
