"""DeepSpeed behind four verbs: forward, backward, step, refresh. The only place that writes a DeepSpeed config.

deepspeed is imported inside functions: importing it picks an accelerator and takes seconds, and the environment that
it reads has to be set first.
"""

import io
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from conf.checks import require
from pretrain.config import EngineConfig, OptimizerConfig, OptimizerKind, Precision
from pretrain.optim.fragments import Layout, find_layout
from pretrain.optim.lamb import Lamb
from pretrain.optim.param_groups import decay_groups

SUPPORTED = {
    (0, Precision.fp32),
    (1, Precision.fp32),
    (1, Precision.bf16),
    (2, Precision.fp32),
    (2, Precision.bf16),
}


def require_supported(config: EngineConfig) -> None:
    """Raise ValueError for a pair of ZeRO stage and precision that this release does not run."""
    pairs = ", ".join(f"{stage} with {precision}" for stage, precision in sorted(SUPPORTED))
    require(
        (config.zero_stage, config.precision) in SUPPORTED,
        "engine.zero_stage, engine.precision",
        f"{config.zero_stage} with {config.precision}",
        f"this release runs {pairs}",
    )


def deepspeed_config(config: EngineConfig) -> dict[str, Any]:
    """Return the dict for `deepspeed.initialize`. It knows no batch size: `Engine.backward` marks each step's end."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": config.zero_stage},
        # The loss is already divided by global counts, so gradients of ranks and micro-steps add up.
        "gradient_allreduce_op": "sum",
        # At stage 0 in fp32 DeepSpeed clips without telling the norm; Engine.step does it there.
        "gradient_clipping": config.gradient_clipping if config.zero_stage > 0 else 0.0,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
    if config.precision is Precision.bf16:
        settings["bf16"] = {"enabled": True}
        # fp32 gradients on the wire and in the accumulator: else stages and world sizes do not agree.
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
        settings["communication_data_type"] = "fp32"
    return settings


@dataclass(frozen=True, slots=True)
class Engine:
    """A model with its optimizer under ZeRO. `layout` says where every parameter lies on this rank."""

    deepspeed_engine: Any
    optimizer: torch.optim.Optimizer  # ours, or torch's AdamW: steps on the tensors of `layout`
    layout: Layout
    gradient_clipping: float

    @property
    def module(self) -> nn.Module:
        """The model, in the precision of the run."""
        return self.deepspeed_engine.module

    def forward(self, batch: Any) -> Any:
        """Return the model's output for one micro-batch."""
        return self.deepspeed_engine(batch)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient of a loss that is already divided by global counts; the step's last call reduces it."""
        self.deepspeed_engine.set_gradient_accumulation_boundary(is_last)
        self.deepspeed_engine.backward(loss, scale_wrt_gas=False)
        if not is_last:
            self.deepspeed_engine.step()  # counts the micro-step, updates nothing

    def step(self, learning_rate: float) -> float:
        """Clip, update at this rate, clear the gradients; return the global gradient norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        unsharded_norm = None if self.layout.sharded else self._clip_unsharded()
        self.deepspeed_engine.step()
        norm = self.deepspeed_engine.get_global_grad_norm() if unsharded_norm is None else unsharded_norm
        return float(norm)

    def _clip_unsharded(self) -> Tensor:
        parameters = [parameter for parameter in self.module.parameters() if parameter.grad is not None]
        limit = self.gradient_clipping or float("inf")
        return nn.utils.clip_grad_norm_(parameters, limit)

    def refresh_weights(self) -> None:
        """Copy the fp32 weights of `layout` into the weights that the forward pass uses, on all ranks."""
        if self.layout.sharded:
            self.deepspeed_engine.optimizer.update_lp_params()


def build_engine(model: nn.Module, config: EngineConfig, optimizer_config: OptimizerConfig) -> Engine:
    """Return the model under DeepSpeed with the configured optimizer bound to it. All ranks call it together.

    The process group must exist. The model must have the same weights on every rank.
    """
    require_supported(config)
    deepspeed = _import_deepspeed(next(model.parameters()).device.type)
    optimizer = _build_optimizer(model, optimizer_config)
    with redirect_stdout(io.StringIO()):  # BF16_Optimizer prints twelve lines about memory, whatever the log level
        deepspeed_engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(config))
    # Some engine classes step once inside initialize, with zero gradients: nothing of that may stay.
    optimizer.state.clear()
    layout = find_layout(deepspeed_engine.module, deepspeed_engine.optimizer)
    if isinstance(optimizer, Lamb):
        optimizer.bind(layout.fragments, num_parameters=len(layout.shapes), sharded=layout.sharded)
    return Engine(deepspeed_engine, optimizer, layout, config.gradient_clipping)


def _build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    groups = decay_groups(model, config.weight_decay)
    build: dict[OptimizerKind, Callable[[], torch.optim.Optimizer]] = {
        # Rate 0 until the schedule sets it: DeepSpeed may step inside initialize.
        OptimizerKind.lamb: lambda: Lamb(groups, lr=0.0, beta1=config.beta1, beta2=config.beta2, eps=config.eps),
        OptimizerKind.adamw: lambda: torch.optim.AdamW(
            groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps
        ),
    }
    return build[config.kind]()


def _import_deepspeed(device_type: str) -> Any:
    """Import deepspeed for this device, quietly, and without the compiler run of its CPU communication op."""
    if device_type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
        import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed 0.19.8 calls it under its old name at every step.
    warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*", category=FutureWarning)
    # The shared-memory op is compiled at the first start: 51 s, and a kill meanwhile leaves a lock file on which every
    # later start waits for ever. gloo does its work. Internal name: tests/unit/pretrain/test_engine.py guards it.
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        backend = "nccl" if device_type == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False, init_method="env://")
    assert dist.is_initialized()
    return deepspeed
