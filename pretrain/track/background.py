"""Work that may wait for a network, done in order on a thread of its own: whoever hands it over never waits."""

import queue
import threading
from collections.abc import Callable


class Background:
    """A thread that does one thing after another. It is a daemon: nobody waits for it longer than `finish` does."""

    def __init__(self, name: str, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], None]) -> bool:
        """Have `task` done after all before it; it must not raise. False, and nothing, when too many wait already."""
        if self._tasks.qsize() >= self._most_waiting:
            return False
        self._tasks.put(task)
        return True

    def finish(self, seconds: float) -> bool:
        """Wait for at most `seconds` until everything is done; return whether it is. What comes later is not done."""
        self._tasks.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
