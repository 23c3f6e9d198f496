"""The dict that DeepSpeed is configured with, derived from ours, and the combinations that it can run soundly. Pure."""

from typing import Any

from conf.checks import require
from pretrain.engine_config import EngineConfig, Precision

SUPPORTED = {
    (0, Precision.fp32),
    (0, Precision.bf16),
    *((stage, precision) for stage in (1, 2, 3) for precision in Precision),
}


def require_supported(config: EngineConfig) -> None:
    """Raise ValueError for a combination of stage, precision and offload that DeepSpeed has not, or has broken."""
    require(
        (config.zero_stage, config.precision) in SUPPORTED,
        "engine.zero_stage, engine.precision",
        f"{config.zero_stage} with {config.precision}",
        "DeepSpeed 0.19.8 unscales fp16 gradients at stage 0 whose loss it never scaled; use stage 1, 2 or 3, or bf16",
    )
    require(
        not config.offload_optimizer or config.zero_stage > 0,
        "engine.offload_optimizer",
        config.offload_optimizer,
        "DeepSpeed offloads the optimizer at engine.zero_stage 1, 2 and 3 only",
    )


def deepspeed_config(config: EngineConfig) -> dict[str, Any]:
    """Return the dict for `deepspeed.initialize`. It knows no batch size: `Engine.backward` marks each step's end."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": _zero(config),
        # At stage 0 in fp32 DeepSpeed clips without telling the norm; Engine.step does it there.
        "gradient_clipping": 0.0 if clips_itself(config) else config.gradient_clipping,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
        # On by default, it synchronises the device twice in every micro-step.
        "timers": {"throughput": {"enabled": False}},
    }
    if sums_gradients(config):
        settings["gradient_allreduce_op"] = "sum"
    if config.precision is Precision.fp32:
        return settings
    settings[config.precision.value] = {"enabled": True}
    if config.precision is Precision.fp16:
        # 0 makes the scale dynamic. The window and the hysteresis are DeepSpeed's defaults.
        settings["fp16"] |= {"loss_scale": 0, "initial_scale_power": config.initial_loss_scale_power}
    # fp32 gradients on the wire and in the accumulator: else stages and world sizes do not agree.
    settings["communication_data_type"] = "fp32"
    if config.zero_stage > 0:  # at stage 0 DeepSpeed refuses it and accumulates in bf16
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings


def sums_gradients(config: EngineConfig) -> bool:
    """Return whether DeepSpeed adds the ranks' gradients up; at stage 3 it can only average them.

    The loss is divided by global counts already, so a sum is what is wanted.
    """
    return config.zero_stage < 3


def clips_itself(config: EngineConfig) -> bool:
    """Return whether our engine clips: where DeepSpeed wraps no optimizer, it clips but does not tell the norm."""
    return config.zero_stage == 0 and config.precision is Precision.fp32


def _zero(config: EngineConfig) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": config.zero_stage}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if config.zero_stage == 3:
        zero["sub_group_size"] = config.sub_group_size
        zero["stage3_param_persistence_threshold"] = config.param_persistence_threshold
        # The default replaces linear layers by a variant of other rounding: stages would not agree.
        zero["memory_efficient_linear"] = False
    return zero
