"""Troubles of a run that somebody should hear of: each is told once when it begins, and again after it was over."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from statistics import median
from types import TracebackType
from typing import NamedTuple

from pretrain.step import StepResult
from pretrain.track.metrics import StepSums

MIN_STEPS = 30  # before the speed of a run is known
WINDOW_STEPS = 500  # or stretches of fast ones, of which the medians are taken
STRETCH_SECONDS = 1.0  # shorter steps are taken together: else one pause would outweigh all that the window holds
RECENT_STEPS, RECENT_SECONDS = 10, 60.0  # at least so many: their throughput is compared with the median
DROP = 0.5  # of the median throughput
BAD_STEPS_IN_A_ROW = 3
STALL_FACTOR = 20.0  # times the median step
MIN_STALL_SECONDS = 60.0
CHECK_SECONDS = 5.0

NON_FINITE, SKIPPED, SLOWED_DOWN, STALLED = "non-finite loss", "steps skipped", "throughput drop", "stalled"


class _Stretch(NamedTuple):
    """Steps in a row that took a second or longer together; often one."""

    steps: int = 0
    tokens: int = 0  # real ones
    seconds: float = 0.0

    def plus(self, sums: StepSums) -> "_Stretch":
        return _Stretch(self.steps + 1, self.tokens + sums.tokens, self.seconds + sums.seconds)


class Alerts:
    """Looks at every step of a run, and from a thread of its own at a step that does not end.

    `tell` takes a title and a text, also from that thread. Loss and gradient are those of all ranks, so one rank is
    enough to look at them.
    """

    def __init__(self, tell: Callable[[str, str], None], *, max_bad_steps: int) -> None:
        self._tell, self._max_bad_steps = tell, max_bad_steps
        self._going_on: set[str] = set()
        self._phase: object = None
        self._stretches: deque[_Stretch] = deque(maxlen=WINDOW_STEPS)
        self._begun_stretch = _Stretch()
        self._seconds: deque[float] = deque(maxlen=WINDOW_STEPS)  # of single steps
        self._step = 0
        self._begun: float | None = None  # time.monotonic() of the step under way
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="alerts", daemon=True)

    def follow(self, steps: Iterator[StepResult]) -> Iterator[StepResult]:
        """Yield the results of `steps`. What happens between them, logging or saving, is no part of a step."""
        while True:
            self._begun = time.monotonic()
            result = next(steps, None)
            self._begun = None
            if result is None:
                return
            self.observe(result)
            yield result

    def observe(self, result: StepResult) -> None:
        """Tell what a finished step shows."""
        self._step = result.state.step
        self._set(STALLED, None)
        bad = result.state.bad_steps_in_a_row
        seen = f"the loss or gradient of step {self._step:,} is not finite; max_bad_steps={self._max_bad_steps}"
        self._set(NON_FINITE, f"{seen} such steps in a row end the run" if bad else None)
        many = f"the last {bad} steps were skipped, without a finite loss and gradient; max_bad_steps="
        self._set(SKIPPED, f"{many}{self._max_bad_steps} end the run" if bad >= BAD_STEPS_IN_A_ROW else None)
        self._observe_speed(result)

    def check_stalled(self, seconds: float) -> None:
        """Tell when the step under way, `seconds` old, takes far longer than others did."""
        if len(self._seconds) < MIN_STEPS:
            return
        typical = median(self._seconds.copy())
        if seconds > max(MIN_STALL_SECONDS, STALL_FACTOR * typical):
            self._set(
                STALLED, f"step {self._step + 1:,} has not finished for {seconds:.0f} s; the median is {typical:.2f} s"
            )

    def __enter__(self) -> "Alerts":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()

    def _observe_speed(self, result: StepResult) -> None:
        if result.values.get("phase") != self._phase:  # other lengths and batches: another speed
            self._phase = result.values.get("phase")
            self._stretches.clear()
            self._begun_stretch = _Stretch()
            self._seconds.clear()
        self._seconds.append(result.sums.seconds)
        self._begun_stretch = self._begun_stretch.plus(result.sums)
        if self._begun_stretch.seconds < STRETCH_SECONDS:
            return
        self._stretches.append(self._begun_stretch)
        self._begun_stretch = _Stretch()
        if len(self._stretches) < MIN_STEPS:
            return
        typical, (steps, now) = median(each.tokens / each.seconds for each in self._stretches), self._recent_speed()
        text = f"{now:,.0f} tokens/s in the {steps} steps up to {self._step:,}, where {typical:,.0f} is the median"
        self._set(SLOWED_DOWN, text if now < DROP * typical else None)

    def _recent_speed(self) -> tuple[int, float]:
        """Return of how many steps, and the real tokens per second of them: those of the last minute, or all."""
        steps, tokens, seconds = 0, 0, 0.0
        for stretch in reversed(self._stretches):
            if steps >= RECENT_STEPS and seconds >= RECENT_SECONDS:
                break
            steps, tokens, seconds = steps + stretch.steps, tokens + stretch.tokens, seconds + stretch.seconds
        return steps, tokens / seconds

    def _set(self, title: str, text: str | None) -> None:
        """Tell a trouble that has just begun; None: it is over, or never was."""
        if text is None:
            self._going_on.discard(title)
        elif title not in self._going_on:
            self._going_on.add(title)
            self._tell(title, text)

    def _watch(self) -> None:
        while not self._left.wait(CHECK_SECONDS):
            begun = self._begun
            if begun is not None:
                self.check_stalled(time.monotonic() - begun)
