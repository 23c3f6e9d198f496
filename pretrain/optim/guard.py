"""Whether an update may happen: both optimizers ask before they change anything."""

import math
from collections.abc import Callable


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
        # DeepSpeed 0.19.8 writes a norm that is no number as inf, or as -1.
        return not self.hold and (norm is None or (math.isfinite(norm) and norm >= 0))
