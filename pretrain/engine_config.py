"""The config of the update: precision, ZeRO and the optimizer. Checked when built, as all of `pretrain/config.py`."""

from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require


class Precision(StrEnum):
    """Number format of weights and activations; the optimizer always works on fp32 copies."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class OptimizerKind(StrEnum):
    """The update rule."""

    lamb = "lamb"
    adamw = "adamw"


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """LAMB or AdamW. Weight decay skips biases and layer norms, as in google-research/bert."""

    kind: OptimizerKind
    learning_rate: float  # the peak; phases may have their own
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    bias_correction: bool  # LAMB only: see pretrain/optim/lamb.py
    adapt_undecayed: bool  # LAMB only: trust ratios for biases and norms too

    def __post_init__(self) -> None:
        if self.kind is OptimizerKind.adamw:
            require(self.bias_correction, "optimizer.bias_correction", False, "AdamW always corrects; choose lamb")
            require(not self.adapt_undecayed, "optimizer.adapt_undecayed", True, "AdamW has no trust ratios")
        for name in ("beta1", "beta2"):
            require(
                0 <= getattr(self, name) < 1,
                f"optimizer.{name}",
                getattr(self, name),
                "at least 0 and below 1",
            )
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "zero or more")


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    """How the step runs: DeepSpeed's ZeRO stage, number format, clipping, and what bounds a hang."""

    zero_stage: int
    precision: Precision
    offload_optimizer: bool  # fp32 weights and optimizer state in the host's memory, updated there; stages 1 to 3
    gradient_clipping: float  # largest global gradient norm; 0 turns clipping off
    sub_group_size: int  # stage 3: parameters that are updated at a time
    param_persistence_threshold: int  # stage 3: smaller parameters stay whole on every rank
    initial_loss_scale_power: int  # fp16: the dynamic loss scale starts at 2 to this power
    activation_checkpointing: bool  # the backward pass computes each layer again: less memory, a third more work
    deterministic: bool  # CUDA: deterministic kernels only, slower
    collective_timeout_seconds: int

    def __post_init__(self) -> None:
        require(self.zero_stage in (0, 1, 2, 3), "engine.zero_stage", self.zero_stage, "0, 1, 2 or 3")
        clipping = self.gradient_clipping
        require(clipping >= 0, "engine.gradient_clipping", clipping, "zero (off) or more")
        require(self.sub_group_size >= 1, "engine.sub_group_size", self.sub_group_size, "at least 1")
        threshold = self.param_persistence_threshold
        require(threshold >= 0, "engine.param_persistence_threshold", threshold, "zero or more elements")
        power = self.initial_loss_scale_power
        require(0 <= power <= 100, "engine.initial_loss_scale_power", power, "0 to 100")
        timeout = self.collective_timeout_seconds
        require(timeout >= 1, "engine.collective_timeout_seconds", timeout, "at least 1")
