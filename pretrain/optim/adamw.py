"""torch's AdamW, held back when a step's gradient is not a number."""

from typing import Any

import torch

from pretrain.optim.guard import UpdateGuard


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv:1711.05101) that asks `guard` before each update."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.guard = UpdateGuard()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update, or leave everything as it is. `closure` must be None."""
        if closure is not None:
            raise ValueError("AdamW.step takes no closure here")
        if self.guard.allows_update():
            super().step()
