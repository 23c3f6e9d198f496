"""How long one rank worked, told apart from how long it waited for the others: in a synchronous step all take the same.

What a rank does alone is its forward passes (at ZeRO stages 0 to 2; at stage 3 they gather weights from all ranks) and
the reading of its own data. Gradients, norms and updates are collectives, in which the fast wait for the slow.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class OwnTimes(NamedTuple):
    """Seconds of one step in which a rank waited for no other."""

    forward: float = 0.0  # what its forward passes would take if all its micro-batches were real
    reading: float = 0.0  # what its reader took to prepare the step, beside the step before


class ForwardClock:
    """Measures forward passes on the device: host time on a CPU, CUDA events on a GPU, which nobody waits for."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._seconds: list[float] = []
        self._events: list[tuple[Any, Any]] = []

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure what the block does, or on a GPU what it enqueues."""
        if self._on_cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds.append(time.perf_counter() - started)

    def take_mean(self) -> float:
        """Return the mean seconds of the passes since the last call; 0 without any.

        On a GPU the host must have waited for the last pass already.
        """
        seconds = self._seconds + [begin.elapsed_time(end) / 1000 for begin, end in self._events]
        self._seconds, self._events = [], []
        return sum(seconds) / len(seconds) if seconds else 0.0
