"""A wish to stop, from a signal. Ranks agree on it in the loop; here it is only noticed."""

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Remembers the first of SIGTERM and SIGUSR1 that this process gets. One of them on one rank stops all ranks."""

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
