"""What rank 0 writes and shows of a run: metrics.jsonl, then the trackers, then the progress display."""

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pretrain.track.events import EventKind, append_event
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import MetricsLog
from pretrain.track.progress import Progress, open_progress
from pretrain.track.trackers import Trackers, open_trackers
from pretrain.tracking_config import TrackingConfig


class Recorder(Protocol):
    """What the loop reports to. Only rank 0 has one that does anything."""

    def record(self, record: Record) -> None:
        """Log one step's metrics."""

    def progress(self, step: int, record: Record | None) -> None:
        """Show that a step is done."""

    def note(self, text: str) -> None:
        """Show a line."""

    def alert(self, title: str, text: str) -> None:
        """Show a trouble, here and in the trackers. Any thread may call it."""

    def checkpoint(self, tag: Path) -> None:
        """Take note of a complete checkpoint. Any thread may call it."""

    def __enter__(self) -> "Recorder": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class SilentRecorder:
    """The recorder of all ranks but the first."""

    def record(self, record: Record) -> None:
        """Log nothing."""

    def progress(self, step: int, record: Record | None) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def alert(self, title: str, text: str) -> None:
        """Show nothing."""

    def checkpoint(self, tag: Path) -> None:
        """Take no note."""

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class RunRecorder:
    """The recorder of rank 0. The first line after a resume carries `"resumed": true`."""

    def __init__(self, metrics: MetricsLog, trackers: Trackers, progress: Progress, *, resumed: bool) -> None:
        self._metrics, self._trackers, self._progress = metrics, trackers, progress
        self._resumed = resumed

    def record(self, record: Record) -> None:
        """Write the line to disk first: trackers only ever know what the file knows."""
        if self._resumed:
            record = record | {"resumed": True}
            self._resumed = False
        self._metrics.append(record)
        self._trackers.log(record)

    def progress(self, step: int, record: Record | None) -> None:
        """Move the display."""
        self._progress.update(step, record)

    def note(self, text: str) -> None:
        """Show a line above the display."""
        self._progress.note(text)

    def alert(self, title: str, text: str) -> None:
        """Tell the trackers first: they reach people who do not read the log."""
        self._trackers.alert(title, text)
        with suppress(OSError):  # a full disk is no reason to end a training that tells of its trouble
            append_event(self._metrics.path.parent, EventKind.alert, title=title, text=text)
        with suppress(OSError):
            self._progress.note(f"WARNING: {text}")

    def checkpoint(self, tag: Path) -> None:
        """Tell the trackers."""
        self._trackers.checkpoint(tag)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # all three are closed, whatever one of them raises
            stack.callback(self._metrics.close)
            stack.callback(self._trackers.close, failed=error is not None)
            stack.callback(self._progress.close)


def open_recorder(
    config: TrackingConfig,
    *,
    rank: int,
    run_dir: Path,
    run_config: dict[str, Any],
    start_step: int,
    total_steps: int,
) -> Recorder:
    """Return the recorder of a rank. On rank 0, metric lines beyond `start_step` are first moved aside.

    Raises ValueError when a tracker cannot start.
    """
    if rank != 0:
        return SilentRecorder()
    # Before the lines of a rollback move: the trackers ask which steps were ever logged.
    trackers = open_trackers(config, run_dir=run_dir, run_config=run_config, start_step=start_step)
    metrics = MetricsLog(run_dir)
    metrics.discard_after(start_step)
    progress = open_progress(rank=rank, start_step=start_step, max_steps=total_steps)
    return RunRecorder(metrics, trackers, progress, resumed=start_step > 0)
