"""Progress of a stage: tasks note how far they are in small files, one bar in the parent adds them up."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

PROGRESS_FOLDER = "progress"
NOTE_SECONDS = 0.5
BAR_SECONDS = 0.2
LARGE_TOTAL = 10_000  # from here on 1.2M reads better than 1,234,567
LINE_SECONDS = 30.0  # between the lines of a log file, where a bar would be noise


class TaskProgress:
    """One task's note of how much it has done, rewritten at most twice a second."""

    def __init__(self, stage_dir: Path, rank: int) -> None:
        self.path = stage_dir / PROGRESS_FOLDER / f"{rank:05d}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.next_note = 0.0

    def update(self, done: int) -> None:
        """Note that `done` bytes of this task's input are read."""
        now = time.monotonic()
        if now >= self.next_note:
            self.path.write_text(str(done))
            self.next_note = now + NOTE_SECONDS


def read_notes(stage_dir: Path) -> dict[int, int]:
    """Return what every task has noted, by rank; 0 for a note that is just being rewritten."""
    folder = stage_dir / PROGRESS_FOLDER
    return {int(note.name): int(note.read_text() or 0) for note in folder.iterdir()} if folder.is_dir() else {}


def open_bar(label: str, *, total: int, unit: str, initial: int = 0) -> "tqdm[None]":
    """Return a bar on the terminal, a silent one where there is no terminal."""
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        unit_scale=total >= LARGE_TOTAL,
        initial=initial,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


@contextmanager
def show_progress(label: str, total: int, unit: str, read_done: Callable[[], int]) -> Iterator[None]:
    """Show how far `read_done()` is on the way to `total` while the block runs, with rate and time left.

    A bar on a terminal; elsewhere a line when it begins to take long and every half minute after that.
    """
    bar = open_bar(label, total=total, unit=unit, initial=min(read_done(), total))
    ended = threading.Event()
    # Bound now: tasks that run in this process redirect sys.stderr while the thread starts.
    arguments = (bar, label, total, unit, read_done, ended, sys.stderr)
    follower = threading.Thread(target=_follow, args=arguments, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
        if not bar.disable:
            bar.update(min(read_done(), total) - bar.n)
        bar.close()


def _follow(
    bar: "tqdm[None]", label: str, total: int, unit: str, read_done: Callable[[], int], ended: threading.Event,
    stream: TextIO,
) -> None:  # fmt: skip
    started, first = time.monotonic(), read_done()
    while not ended.wait(BAR_SECONDS if not bar.disable else LINE_SECONDS):
        done = min(read_done(), total)
        if not bar.disable:
            bar.update(done - bar.n)
            continue
        line = tqdm.format_meter(
            done, total, time.monotonic() - started, prefix=label, unit=unit, unit_scale=True, initial=first, ncols=100
        )
        print(line, file=stream, flush=True)
