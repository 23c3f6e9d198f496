"""LAMB whose trust ratios are those of whole parameters, however ZeRO cuts them (You et al. 2020, arXiv:1904.00962)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.optim.fragments import Fragment


class Lamb(torch.optim.Optimizer):
    """LAMB in the variant of NVIDIA's BERT (apex FusedLAMB, use_nvlamb=False, bias_correction=True, adam_w_mode=True).

    For a parameter w with gradient g (already clipped by the global norm: the engine does that, once) at step t:

        m = β1 m + (1 - β1) g            v = β2 v + (1 - β2) g²
        u = (m / (1 - β1ᵗ)) / (√(v / (1 - β2ᵗ)) + ε) + λ w
        w = w - lr · (‖w‖ / ‖u‖) u

    The trust ratio ‖w‖ / ‖u‖ is 1 where either norm is 0 and for groups without weight decay (biases, norms). It is
    not clamped.

    ZeRO hands an optimizer flat slices of many parameters, and norms over slices are not LAMB. `bind` says which
    parameter each stretch of a slice belongs to; every step sums w² and u² per stretch, adds them up over the ranks
    (2 floats per parameter on the wire), and takes the ratio per parameter. State: `step`, `exp_avg`, `exp_avg_sq`,
    fp32. Until it is bound, `step()` does nothing: DeepSpeed steps once inside `initialize` on some paths.
    """

    def __init__(
        self, param_groups: Iterable[dict[str, Any]], *, lr: float, beta1: float, beta2: float, eps: float
    ) -> None:
        super().__init__(param_groups, {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": 0.0})
        self._fragments: dict[Tensor, list[Fragment]] | None = None
        self._num_parameters = 0
        self._sharded = False

    def bind(self, fragments: Sequence[Fragment], *, num_parameters: int, sharded: bool) -> None:
        """Say what the tensors in `param_groups` hold. `sharded` when parameters are cut over ranks.

        All ranks must bind with the same `num_parameters` and `sharded`, also one without any fragment.
        """
        held = {tensor for group in self.param_groups for tensor in group["params"]}
        unknown = [fragment.name for fragment in fragments if fragment.flat not in held]
        if unknown:
            raise RuntimeError(f"LAMB was bound to tensors it does not step on (of {unknown[0]}, …)")
        self._fragments = {tensor: [] for tensor in held}
        for fragment in fragments:
            self._fragments[fragment.flat].append(fragment)
        self._num_parameters, self._sharded = num_parameters, sharded

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every tensor of `param_groups` that has a gradient, as the class says. `closure` must be None."""
        if closure is not None:
            raise ValueError("Lamb.step takes no closure")
        if self._fragments is None:
            return
        steps = [
            (group, tensor, self._direction(tensor, group))
            for group in self.param_groups
            for tensor in group["params"]
            if tensor.grad is not None
        ]
        ratios = self._trust_ratios(steps)
        for group, tensor, direction in steps:
            for fragment in self._fragments[tensor]:
                update = fragment.cut(direction)
                if ratios is not None and group["weight_decay"] > 0:
                    update = update * ratios[fragment.index]
                fragment.cut(tensor).add_(update, alpha=-group["lr"])

    def _direction(self, tensor: Tensor, group: dict[str, Any]) -> Tensor:
        """Advance the moments of one tensor and return u, of its shape."""
        assert tensor.grad is not None
        state, gradient = self.state[tensor], tensor.grad
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(tensor)
            state["exp_avg_sq"] = torch.zeros_like(tensor)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        time = float(state["step"])
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(gradient, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (exp_avg_sq / (1 - beta2**time)).sqrt_().add_(group["eps"])
        direction = (exp_avg / (1 - beta1**time)).div_(denominator)
        return direction.add_(tensor, alpha=group["weight_decay"])

    def _trust_ratios(self, steps: list[tuple[dict[str, Any], Tensor, Tensor]]) -> Tensor | None:
        """Return ‖w‖ / ‖u‖ per parameter, fp32 [num_parameters], or None when no group of this call decays."""
        assert self._fragments is not None
        # Decided by the groups, not by the tensors: ranks without a fragment must join the reduction too.
        if not any(group["weight_decay"] > 0 for group in self.param_groups):
            return None
        device = self.param_groups[0]["params"][0].device
        squared = torch.zeros(2, self._num_parameters, dtype=torch.float32, device=device)
        for group, tensor, direction in steps:
            fragments = self._fragments[tensor]
            if group["weight_decay"] > 0 and fragments:
                indices = torch.tensor([fragment.index for fragment in fragments], device=device)
                for row, whole in enumerate((tensor, direction)):
                    norms = torch._foreach_norm([fragment.cut(whole) for fragment in fragments])
                    squared[row, indices] = torch.stack(list(norms)).square()
        if self._sharded:
            dist.all_reduce(squared)
        weight, update = squared.sqrt()
        return torch.where((weight > 0) & (update > 0), weight / update, 1.0)
