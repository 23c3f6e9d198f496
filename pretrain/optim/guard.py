"""Whether an update may happen: both optimizers ask before they change anything."""

import math
from collections.abc import Callable


def is_finite_norm(norm: float) -> bool:
    """Return whether a gradient norm is a number. DeepSpeed 0.19.8 writes one that is not as NaN, as inf, or as -1."""
    return math.isfinite(norm) and norm >= 0


class UpdateGuard:
    """Forbids the update of a step whose loss or gradient is not a number.

    ZeRO classes compute the gradient's norm inside their `step()`, right before they call the optimizer; some skip
    the update themselves when it is not finite, others do not. Here all behave the same. The norm is global, so every
    rank decides alike.
    """

    def __init__(self) -> None:
        self.hold = False  # set by the engine for a step whose loss is not finite
        self.grad_norm: Callable[[], float | None] = lambda: None

    def allows_update(self) -> bool:
        """Return whether the optimizer may update. A norm that nobody has measured (None) forbids nothing."""
        norm = self.grad_norm()
        return not self.hold and (norm is None or is_finite_norm(norm))
