"""A wish to stop, from a signal. Ranks agree on it in the loop; here it is only noticed."""

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Remembers the first of SIGTERM, SIGUSR1 and SIGINT that this process gets; one on one rank stops all ranks.

    A second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._notice)

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.reason is not None

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
