"""Progress of a stage: tasks note how far they are in small files, one bar in the parent adds them up."""

import sys
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

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


def finished_tasks(stage_dir: Path) -> set[int]:
    """Return the tasks of a stage that have left their completion marker."""
    folder = stage_dir / "completions"
    return {int(marker.name) for marker in _numbered(folder)}


def read_notes(stage_dir: Path, besides: Container[int] = ()) -> dict[int, int]:
    """Return what every task but `besides` has noted, by rank; 0 for a note that is just being rewritten."""
    notes = {int(note.name): note for note in _numbered(stage_dir / PROGRESS_FOLDER)}
    return {rank: _read_note(note) for rank, note in notes.items() if rank not in besides}


def _numbered(folder: Path) -> list[Path]:
    # A file system of the network keeps removed files under names of its own.
    return [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _read_note(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except OSError:  # another node is rewriting it
        return 0


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
def show_progress(
    label: str,
    total: int,
    unit: str,
    read_done: Callable[[], int],
    *,
    read_state: Callable[[], str] = str,
    refresh_seconds: float = BAR_SECONDS,
) -> Iterator[None]:
    """Show how far `read_done()` is on the way to `total` while the block runs, with rate, time left and a few words.

    A bar on a terminal; elsewhere a line when it begins to take long and every half minute after that.
    """
    bar = open_bar(label, total=total, unit=unit, initial=min(read_done(), total))
    ended = threading.Event()
    # Bound now: tasks that run in this process redirect sys.stderr while the thread starts.
    write_line = partial(print, file=sys.stderr, flush=True)

    def follow() -> None:
        started, first = time.monotonic(), read_done()
        while not ended.wait(LINE_SECONDS if bar.disable else refresh_seconds):
            done, state = min(read_done(), total), read_state()
            if bar.disable:
                seconds = time.monotonic() - started
                write_line(_line(label, unit, total=total, done=done, first=first, seconds=seconds, state=state))
            else:
                bar.set_postfix_str(state, refresh=False)
                bar.update(done - bar.n)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
        if not bar.disable:
            bar.update(min(read_done(), total) - bar.n)
        bar.close()


def _line(label: str, unit: str, *, total: int, done: int, first: int, seconds: float, state: str) -> str:
    return tqdm.format_meter(
        done, total, seconds, prefix=label, unit=unit, unit_scale=True, initial=first, ncols=100, postfix=state or None
    )
