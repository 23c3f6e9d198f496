"""The config of fine-tuning: one dataclass per section, checked when built; defaults are in `conf/finetune/`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require
from conf.compose import compose
from finetune.adapter_config import AdapterConfig, AdapterKind
from finetune.task_config import (
    ClassificationConfig,
    QuestionAnsweringConfig,
    TaggingConfig,
    TaskConfig,
    TaskName,
)

CONF_PACKAGE = "conf.finetune"


# What to do with an example that cannot be used. (`raise` cannot be a name in a class body.)
OnError = StrEnum("OnError", ["raise", "skip"])


class Tracking(StrEnum):
    """Who else hears of losses and scores, besides `history.jsonl`."""

    none = "none"
    tensorboard = "tensorboard"
    wandb = "wandb"


class Precision(StrEnum):
    """Of matrix products; weights and optimizer state are fp32."""

    fp32 = "fp32"
    bf16 = "bf16"


class LrSchedule(StrEnum):
    """How the learning rate goes on after the warmup."""

    linear = "linear"
    cosine = "cosine"
    constant = "constant"


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """Optimizer, its steps, and what of the model learns. Batch sizes are in inputs: texts, or windows of long ones."""

    epochs: float
    max_steps: int | None
    global_batch_size: int  # per optimizer step, over all ranks
    micro_batch_size: int  # per forward and backward of one rank
    learning_rate: float
    lr_schedule: LrSchedule
    warmup_ratio: float
    weight_decay: float
    gradient_clipping: float  # 0: none
    layer_decay: float
    train_top_layers: int | None

    def __post_init__(self) -> None:
        require(0 < self.epochs < math.inf, "training.epochs", self.epochs, "above 0")
        for name in ("max_steps", "global_batch_size", "micro_batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"training.{name}", value, "at least 1")
        rate = self.learning_rate
        require(0 < rate < math.inf, "training.learning_rate", rate, "above 0 and finite")
        require(0 <= self.warmup_ratio < 1, "training.warmup_ratio", self.warmup_ratio, "at least 0 and below 1")
        require(self.weight_decay >= 0, "training.weight_decay", self.weight_decay, "zero or more")
        clipping = self.gradient_clipping
        require(clipping >= 0, "training.gradient_clipping", clipping, "zero (none) or more")
        require(0 < self.layer_decay <= 1, "training.layer_decay", self.layer_decay, "above 0 and at most 1")
        top = self.train_top_layers
        require(top is None or top >= 0, "training.train_top_layers", top, "null (all) or zero or more layers")


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """When the model is scored on `eval_file`, and what the scores decide."""

    every: int | None  # steps; null: after each epoch
    batch_size: int  # inputs per forward of one rank
    metric: str | None
    patience: int | None

    def __post_init__(self) -> None:
        for name in ("every", "batch_size", "patience"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"evaluation.{name}", value, "at least 1")


@dataclass(kw_only=True, slots=True)
class FinetuneConfig:
    """The root config; only the entry reads it whole. Its subclasses say which task."""

    task: TaskConfig
    model: str
    train_file: str
    eval_file: str
    test_file: str | None
    output_dir: str
    seeds: list[int]
    on_error: OnError
    max_length: int | None
    tracking: Tracking
    precision: Precision
    deepspeed: str | None
    adapter: AdapterConfig
    training: TrainingConfig
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        require(bool(self.seeds), "seeds", self.seeds, "at least one, as [0]")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "each one once")
        require(all(0 <= seed < 2**32 for seed in self.seeds), "seeds", self.seeds, "0 to 4294967295")
        length = self.max_length
        require(length is None or length >= 1, "max_length", length, "null or at least 1 token")
        if self.adapter.kind is not AdapterKind.none:
            kind, top = f"adapter.kind={self.adapter.kind.value}", self.training.train_top_layers
            require(top is None, "training.train_top_layers", top, f"null: {kind} freezes the encoder itself")
            require(self.deepspeed is None, "deepspeed", self.deepspeed, f"null: {kind} has not been tried under it")


@dataclass(kw_only=True, slots=True)
class ClassificationRun(FinetuneConfig):
    """`task=classification`."""

    task: ClassificationConfig


@dataclass(kw_only=True, slots=True)
class TaggingRun(FinetuneConfig):
    """`task=tagging`."""

    task: TaggingConfig


@dataclass(kw_only=True, slots=True)
class QuestionAnsweringRun(FinetuneConfig):
    """`task=question_answering`."""

    task: QuestionAnsweringConfig


SCHEMAS: dict[str, type[FinetuneConfig]] = {
    TaskName.classification: ClassificationRun,
    TaskName.tagging: TaggingRun,
    TaskName.question_answering: QuestionAnsweringRun,
}


def compose_finetune(overrides: Sequence[str]) -> FinetuneConfig:
    """Return the config of `python -m finetune`; the schema is that of the task that `overrides` choose.

    Raises ValueError naming the key, the value and the remedy.
    """
    chosen = [value for key, _, value in (override.partition("=") for override in overrides) if key == "task"]
    name = chosen[-1] if chosen else None
    require(name in SCHEMAS, "task", name, f"one of {', '.join(SCHEMAS)}, as task={TaskName.classification}")
    assert name is not None
    return compose("finetune", SCHEMAS[name], overrides, package=CONF_PACKAGE)
