"""LAMB whose trust ratios are those of whole parameters, however ZeRO cuts them (You et al. 2020, arXiv:1904.00962)."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.model.kernels import Norms, torch_norms
from pretrain.optim.fragments import Fragment, Layout
from pretrain.optim.guard import UpdateGuard


class Lamb(torch.optim.Optimizer):
    """LAMB in the variant of NVIDIA's BERT (apex FusedLAMB with adam_w_mode=True, the default).

    For a parameter w with gradient g at step t:

        m = β1 m + (1 - β1) g            v = β2 v + (1 - β2) g²
        u = (m / (1 - β1ᵗ)) / (√(v / (1 - β2ᵗ)) + ε) + λ w
        w = w - lr · (‖w‖ / ‖u‖) u

    The trust ratio ‖w‖ / ‖u‖ is 1 where either norm is 0. It is not clamped: φ of the paper's algorithm 2 is the
    identity, as in NVIDIA's. What may be chosen, and where it comes from:

    - Pre-normalisation: g is divided by max(1, ‖all gradients‖ / limit) first, once, by the engine
      (`engine.gradient_clipping`). FusedLAMB does the same inside (`max_grad_norm=1.0`); the paper does not.
    - `bias_correction`: the terms 1 - βᵗ, as in the paper's algorithm 2 and in FusedLAMB. google-research/bert's
      optimizer leaves them out.
    - `adapt_undecayed=False`: groups without weight decay (biases, norms) have ratio 1, as in FusedLAMB with
      `use_nvlamb=False`. True takes the ratio everywhere, as in the paper and with `use_nvlamb=True`.

    ZeRO hands an optimizer flat slices of many parameters, and norms over slices are not LAMB. `bind` says which
    parameter each stretch of a slice belongs to; every step sums w² and u² per stretch, adds them up over the ranks
    (2 floats per parameter on the wire), and takes the ratio per parameter. State: `step`, `exp_avg`, `exp_avg_sq`,
    fp32. Until it is bound, `step()` does nothing: DeepSpeed steps once inside `initialize` on some paths.
    """

    def __init__(
        self,
        param_groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        bias_correction: bool = True,
        adapt_undecayed: bool = False,
        norms: Norms = torch_norms,
    ) -> None:
        super().__init__(param_groups, {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": 0.0})
        self.guard = UpdateGuard()
        self.trust_ratios: Tensor | None = None  # of the last step, fp32 [parameters]; NaN where none was taken
        self._bias_correction = bias_correction
        self._adapt_undecayed = adapt_undecayed
        self._norms = norms
        self._fragments: dict[Tensor, list[Fragment]] | None = None
        self._indices: dict[Tensor, Tensor] = {}  # of the parameters in each flat tensor, int64 [fragments]
        self._sharded = False

    def bind(self, layout: Layout) -> None:
        """Say what the tensors that `step` will see hold. All ranks bind together, also one without any fragment."""
        self._fragments = {flat: [] for flat in layout.flats}
        for fragment in layout.fragments:
            self._fragments[fragment.flat].append(fragment)
        self._sharded = layout.sharded
        device = layout.flats[0].device
        self._indices = {
            flat: torch.tensor([fragment.index for fragment in fragments], dtype=torch.int64, device=device)
            for flat, fragments in self._fragments.items()
        }
        self.trust_ratios = torch.full((len(layout.shapes),), torch.nan, dtype=torch.float32, device=device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every tensor of `param_groups` that has a gradient, as the class says. `closure` must be None.

        ZeRO calls it once per group or per sub-group, with the other groups left empty.
        """
        if closure is not None:
            raise ValueError("Lamb.step takes no closure")
        if self._fragments is None or not self.guard.allows_update():
            return
        updates = [
            (group, tensor, self._direction(tensor, group))
            for group in self.param_groups
            for tensor in group["params"]
            if tensor.grad is not None
        ]
        ratios = self._take_trust_ratios(updates)
        for group, tensor, direction in updates:
            for fragment in self._fragments_of(tensor):
                update = fragment.cut(direction)
                if self._adapts(group):
                    update = update * ratios[fragment.index]
                fragment.cut(tensor).add_(update, alpha=-group["lr"])

    def _adapts(self, group: dict[str, Any]) -> bool:
        return bool(self._adapt_undecayed or group["weight_decay"] > 0)

    def _fragments_of(self, tensor: Tensor) -> list[Fragment]:
        assert self._fragments is not None
        if tensor not in self._fragments:
            raise RuntimeError(f"LAMB is to step on a tensor {list(tensor.shape)} that it was not bound to")
        return self._fragments[tensor]

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
        time = float(state["step"]) if self._bias_correction else torch.inf
        exp_avg, exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(gradient, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (exp_avg_sq / (1 - beta2**time)).sqrt_().add_(group["eps"])
        direction = (exp_avg / (1 - beta1**time)).div_(denominator)
        return direction.add_(tensor, alpha=group["weight_decay"])

    def _take_trust_ratios(self, updates: list[tuple[dict[str, Any], Tensor, Tensor]]) -> Tensor:
        """Return ‖w‖ / ‖u‖ per parameter, fp32 [parameters], 1 for those that this call does not adapt.

        Decided by groups, not by fragments: ranks without a fragment join the reduction too.
        """
        assert self.trust_ratios is not None
        adapted = [(tensor, direction) for group, tensor, direction in updates if self._adapts(group)]
        if not adapted:
            return torch.ones_like(self.trust_ratios)
        squared = torch.zeros(2, len(self.trust_ratios), dtype=torch.float32, device=self.trust_ratios.device)
        for tensor, direction in adapted:
            fragments = self._fragments_of(tensor)
            if fragments:
                for row, whole in enumerate((tensor, direction)):
                    norms = self._norms([fragment.cut(whole) for fragment in fragments])
                    squared[row, self._indices[tensor]] = norms.square()
        if self._sharded:
            dist.all_reduce(squared)
        weight, update = squared.sqrt()
        ratios = torch.where((weight > 0) & (update > 0), weight / update, 1.0)
        # What neither has a weight nor moves is none of this call's parameters, or has no ratio to speak of.
        self.trust_ratios = torch.where((weight > 0) | (update > 0), ratios, self.trust_ratios)
        return ratios
