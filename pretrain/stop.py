"""A wish to stop, from a signal or the time budget. Ranks agree on it in the loop; here it is only noticed."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


@contextmanager
def mortal() -> Iterator[None]:
    """Let the signals end this process at once: for a wait in native code, where none is noticed, with nothing to save.

    A launcher that tears a start down, because another rank has failed, would wait for this one until it kills it.
    """
    heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Remembers the first of `STOP_SIGNALS` and the end of `max_minutes`; one on one rank stops all ranks.

    SIGHUP, of a terminal that is closed, is left alone under nohup. A second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._started = time.monotonic() - _process_age()
        self._minutes = math.inf
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._notice)

    def after_minutes(self, minutes: float | None) -> None:
        """Ask to stop so many minutes after the start of this process, imports included; None: never."""
        self._minutes = math.inf if minutes is None else minutes

    @property
    def requested(self) -> bool:
        """Whether a signal came or the time is over."""
        if self.reason is None and time.monotonic() - self._started >= 60 * self._minutes:
            self.reason = f"max_minutes={self._minutes:g}"
        return self.reason is not None

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)


def _process_age() -> float:
    """Return how many seconds ago this process was started."""
    return max(0.0, time.time() - psutil.Process().create_time())
