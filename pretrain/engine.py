"""DeepSpeed behind a few verbs: forward, backward, step, refresh; and what it knows besides: norms, ratios, scale.

deepspeed is imported inside functions: importing it picks an accelerator and takes seconds, and the environment that
it reads has to be set first.
"""

import io
import logging
import math
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from conf.checks import require
from pretrain.config import Kernels
from pretrain.deepspeed_config import clips_itself, deepspeed_config, require_supported, sums_gradients
from pretrain.engine_config import EngineConfig, OptimizerConfig, OptimizerKind, Precision
from pretrain.model.kernels import Norms, multi_tensor_norms
from pretrain.optim.adamw import AdamW
from pretrain.optim.fragments import Layout, find_layout
from pretrain.optim.guard import is_finite_norm
from pretrain.optim.lamb import Lamb
from pretrain.optim.param_groups import decay_groups

LOSS_SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class LossScaleError(ValueError):
    """fp16's gradients overflow whatever the loss scale: they are not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A model with its optimizer under ZeRO. `layout` says where every parameter lies on this rank."""

    deepspeed_engine: Any
    optimizer: Lamb | AdamW  # ours: steps on the tensors of `layout`
    layout: Layout
    config: EngineConfig
    norms: Norms
    kept_loss_scaler: dict[str, float] = field(default_factory=dict)  # for a later start in fp16

    @property
    def module(self) -> nn.Module:
        """The model, in the precision of the run. Under ZeRO-3 each forward pass is a matter of all ranks."""
        return self.deepspeed_engine.module

    def forward(self, batch: Any) -> Any:
        """Return the model's output for one micro-batch."""
        return self.deepspeed_engine(batch)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient of a loss that is already divided by global counts; `is_last` is the step's last call.

        It reduces the gradients at stages 0 and 1; at stages 2 and 3 DeepSpeed reduces after every micro-batch.
        """
        self.deepspeed_engine.set_gradient_accumulation_boundary(is_last)
        if not sums_gradients(self.config):
            loss = loss * dist.get_world_size()
        self.deepspeed_engine.backward(loss, scale_wrt_gas=False)
        if not is_last:
            self.deepspeed_engine.step()  # counts the micro-step, updates nothing

    def step(self, learning_rate: float, *, hold: bool = False) -> float:
        """Clip, update at this rate, clear the gradients; return the global gradient norm before clipping.

        A norm that is not finite (returned as inf) leaves weights and optimizer state as they are, and so does
        `hold`. Raises LossScaleError, on all ranks, when fp16 gradients overflow at the smallest loss scale.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if isinstance(self.optimizer, Lamb) and self.optimizer.trust_ratios is not None:
            self.optimizer.trust_ratios = torch.full_like(self.optimizer.trust_ratios, torch.nan)
        guard = self.optimizer.guard
        guard.hold = hold
        if clips_itself(self.config):
            own_norm = self._clip_unsharded()
            guard.grad_norm = lambda: own_norm
        try:
            self.deepspeed_engine.step()
        except Exception as error:
            if "loss scale already at minimum" in str(error):
                raise LossScaleError(str(error)) from error
            raise
        norm = guard.grad_norm()
        assert norm is not None
        if is_finite_norm(norm):
            return norm
        self._drop_offloaded_gradients()
        return math.inf

    def _drop_offloaded_gradients(self) -> None:
        """Clear what DeepSpeed 0.19.8 leaves behind when it skips an update at stages 1 and 2 with offload.

        It would add the gradients of the skipped step, infinite ones too, to those of every later step.
        """
        if self.config.offload_optimizer and self.config.zero_stage < 3:
            gradients = self.deepspeed_engine.optimizer.averaged_gradients
            gradients.update(dict.fromkeys(gradients))

    def _clip_unsharded(self) -> float:
        parameters = list(self.module.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(self.norms(gradients))
        nn.utils.clip_grads_with_norm_(parameters, self.config.gradient_clipping or math.inf, norm)
        return float(norm)

    def refresh_weights(self) -> None:
        """Copy the fp32 weights of `layout` into the weights that the forward pass uses, on all ranks."""
        self.layout.refresh()

    def reset_optimizer(self) -> None:
        """Forget what the optimizer has seen: moments and step counts become zero."""
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def trust_ratios(self) -> dict[str, float]:
        """Return ‖w‖ / ‖u‖ of the last step's update, of every parameter that LAMB adapts; empty without one."""
        if not isinstance(self.optimizer, Lamb) or self.optimizer.trust_ratios is None:
            return {}
        ratios = zip(self.layout.shapes, self.optimizer.trust_ratios.tolist(), strict=True)
        return {name: ratio for name, ratio in ratios if not math.isnan(ratio)}

    @property
    def loss_scale(self) -> float | None:
        """What fp16 losses are multiplied with; None in other precisions."""
        return self.loss_scaler_state()["cur_scale"] if self.config.precision is Precision.fp16 else None

    def loss_scaler_state(self) -> dict[str, float]:
        """Return DeepSpeed's dynamic loss scale and its counters; empty when the run never was in fp16."""
        if self.config.precision is not Precision.fp16:
            return dict(self.kept_loss_scaler)
        scaler = self.deepspeed_engine.optimizer.loss_scaler
        return {name: getattr(scaler, name) for name in LOSS_SCALER_STATE}

    def load_loss_scaler(self, state: dict[str, float]) -> None:
        """Go on with a loss scale that `loss_scaler_state` gave; without one start anew. Other precisions keep it."""
        if self.config.precision is not Precision.fp16:
            self.kept_loss_scaler.update(state)
            return
        for name, value in state.items():
            setattr(self.deepspeed_engine.optimizer.loss_scaler, name, value)


def build_engine(
    model: nn.Module, config: EngineConfig, optimizer_config: OptimizerConfig, kernels: Kernels = Kernels.auto
) -> Engine:
    """Return the model under DeepSpeed with the configured optimizer bound to it. All ranks call it together.

    The process group must exist. The model must have the same weights on every rank. `kernels` chooses what takes the
    norms of LAMB's trust ratios and of unsharded gradients. Raises ValueError for a combination that DeepSpeed or the
    device cannot run.
    """
    require_supported(config)
    deepspeed = _import_deepspeed(next(model.parameters()).device.type)
    _require_precision(config.precision)
    norms = multi_tensor_norms(kernels)
    optimizer = _build_optimizer(model, optimizer_config, norms)
    with redirect_stdout(io.StringIO()):  # BF16_Optimizer prints twelve lines about memory, whatever the log level
        deepspeed_engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_config(config))
    # Some engine classes step once inside initialize, with zero gradients: nothing of that may stay.
    optimizer.state.clear()
    layout = find_layout(deepspeed_engine.module, deepspeed_engine.optimizer)
    if isinstance(optimizer, Lamb):
        optimizer.bind(layout)
    if not clips_itself(config):
        optimizer.guard.grad_norm = lambda: float(deepspeed_engine.optimizer._global_grad_norm)
    return Engine(deepspeed_engine=deepspeed_engine, optimizer=optimizer, layout=layout, config=config, norms=norms)


def _build_optimizer(model: nn.Module, config: OptimizerConfig, norms: Norms) -> Lamb | AdamW:
    groups = decay_groups(model, config.weight_decay)
    # Rate 0 until the schedule sets it: DeepSpeed may step inside initialize.
    build: dict[OptimizerKind, Callable[[], Lamb | AdamW]] = {
        OptimizerKind.lamb: lambda: Lamb(
            groups,
            lr=0.0,
            beta1=config.beta1,
            beta2=config.beta2,
            eps=config.eps,
            bias_correction=config.bias_correction,
            adapt_undecayed=config.adapt_undecayed,
            norms=norms,
        ),
        OptimizerKind.adamw: lambda: AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps),
    }
    return build[config.kind]()


def _require_precision(precision: Precision) -> None:
    """Raise ValueError when the device cannot compute in this precision."""
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    possible = {
        Precision.fp32: lambda: True,
        Precision.bf16: accelerator.is_bf16_supported,
        Precision.fp16: accelerator.is_fp16_supported,
    }
    on_cpu = " (a CPU needs avx512_fp16)" if accelerator.device_name() == "cpu" else ""
    require(
        bool(possible[precision]()),
        "engine.precision",
        precision.value,
        f"this {accelerator.device_name()} cannot compute in it{on_cpu}; use bf16 or fp32",
    )


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
    # DeepSpeed 0.19.8 calls them under their old names at every step.
    for old_name in ("all_gather_into_tensor", "reduce_scatter_tensor"):
        warnings.filterwarnings("ignore", message=f".*{old_name}.*", category=FutureWarning)
    # The shared-memory op is compiled at the first start: 51 s, and a kill meanwhile leaves a lock file on which every
    # later start waits for ever. gloo does its work. Internal name: tests/unit/pretrain/test_engine.py guards it.
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        backend = "nccl" if device_type == "cuda" else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False, init_method="env://")
    assert dist.is_initialized()
    return deepspeed
