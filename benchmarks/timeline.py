"""What a training does when: spans of its steps, of its saves and of their writing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from pretrain.step import run_steps

Span = tuple[float, float]  # begin and end, seconds of one clock


@dataclass(slots=True)
class Timeline:
    """What rank 0 did when."""

    steps: list[Span] = field(default_factory=list)
    holds: list[Span] = field(default_factory=list)  # in which a save held the training
    writes: list[Span] = field(default_factory=list)

    def writing(self, step: Span) -> bool:
        """Return whether a checkpoint was being written during a step."""
        return any(begin < step[1] and step[0] < end for begin, end in self.writes)


def lasted(span: Span) -> float:
    """Return the seconds of a span."""
    return span[1] - span[0]


@contextmanager
def timed(owner: Any, name: str, spans: list[Span]) -> Iterator[None]:
    """Note when each call of a function begins and ends."""
    real: Callable[..., Any] = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return real(*arguments, **options)
        finally:
            spans.append((started, time.perf_counter()))

    with patch.object(owner, name, call):
        yield


@contextmanager
def timed_steps(spans: list[Span]) -> Iterator[None]:
    """Note when each step of the training begins and ends."""

    def timed_run_steps(*arguments: Any, **options: Any) -> Iterator[Any]:
        steps = run_steps(*arguments, **options)
        while True:
            started = time.perf_counter()
            result = next(steps, None)
            if result is None:
                return
            spans.append((started, time.perf_counter()))
            yield result

    with patch("pretrain.__main__.run_steps", timed_run_steps):
        yield
