"""What a hang or a lost rank ends with: a message that names the step, not silence or the libraries' own words."""

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from pretrain.collective_errors import gist, is_collective_failure
from pretrain.distributed import LostRanksError
from pretrain.step import StepResult

WATCH_SHARE = 0.9
"""Of the collective timeout: NCCL ends the process when it is over, and a report must come before."""


class _Task(NamedTuple):
    name: str
    started: float  # time.monotonic()


class StepWatch:
    """Knows what a rank is at. A thread reports, once and with all stacks, what takes nearly as long as ranks wait.

    It ends nothing: gloo raises when the timeout is over, NCCL's own watchdog ends the process. A collective's error
    leaves the `with` block as LostRanksError; other errors carry rank and step as a note.
    """

    def __init__(self, *, rank: int, step: int, timeout_seconds: float) -> None:
        self.step = step  # the last one that is finished
        self._rank, self._timeout_seconds = rank, timeout_seconds
        self._task = _Task("the start", time.monotonic())
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="step-watch", daemon=True)

    def follow(self, steps: Iterator[StepResult]) -> Iterator[StepResult]:
        """Yield the results of `steps`, and take note of each step's beginning and end."""
        self._begin(f"step {self.step + 1}")
        for result in steps:
            self.step = result.state.step
            self._begin(f"logging, evaluation or saving after step {self.step}")
            yield result
            self._begin(f"step {self.step + 1}")
        self._begin("the end")

    def __enter__(self) -> "StepWatch":
        self._begin("the start")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        if error is None:
            return
        if is_collective_failure(error):
            raise LostRanksError(self._explain(error)) from error
        error.add_note(f"on rank {self._rank}, in {self._task.name}")

    def _begin(self, name: str) -> None:
        self._task = _Task(name, time.monotonic())

    def _watch(self) -> None:
        limit, reported = self._timeout_seconds * WATCH_SHARE, None
        due = self._task.started + limit
        while not self._left.wait(max(0.0, due - time.monotonic())):
            task = self._task
            due = task.started + limit
            if time.monotonic() >= due:
                if task is not reported:
                    self._report(task)
                reported, due = task, time.monotonic() + limit

    def _report(self, task: _Task) -> None:
        print(
            f"rank {self._rank}: {task.name} has not finished for {time.monotonic() - task.started:.0f} s; ranks wait "
            f"for each other for engine.collective_timeout_seconds={self._timeout_seconds:g}. This rank's threads "
            "stand at:",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback()

    def _explain(self, error: BaseException) -> str:
        task, reason = self._task, gist(error)
        where = f"rank {self._rank}, {task.name}, after {time.monotonic() - task.started:.1f} s"
        if "timed out" in reason.lower() or "timeout" in reason.lower():
            return (
                f"{where}: another rank hangs, is stopped or far slower ({reason}): one that prints something else, or "
                "nothing. The same command goes on from the last checkpoint; raise "
                f"engine.collective_timeout_seconds={self._timeout_seconds:g} if {task.name} may take so long"
            )
        return (
            f"{where}: another rank has ended, or its node cannot be reached ({reason}); its own message says why. "
            "The same command goes on from the last checkpoint"
        )
