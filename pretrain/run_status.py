"""`RUN_DIR/status.json`: where a run stands, for launchers and people who do not see its exit code."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from data_prep.atomic_file import write_atomically
from pretrain.checkpoint.save import newest_tag
from pretrain.step_watch import StepWatch
from pretrain.track.events import EventKind, append_event
from pretrain.track.run_files import STATUS_FILE


class Standing(StrEnum):
    """What became of a run's latest process."""

    running = "running"  # or killed without a chance to say so
    stopped = "stopped"  # before the end, on request; the same command goes on
    done = "done"
    failed = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The content of the file, but for the newest checkpoint, which is looked up when it is written."""

    state: Standing
    step: int  # finished steps
    total_steps: int
    reason: str | None = None


def ending(step: int, *, total_steps: int, stop_after: int | None, reasons: Sequence[str | None]) -> RunStatus:
    """Return how a run that left without an error stands; `reasons` are the ranks' wishes to stop."""
    if step >= total_steps:
        return RunStatus(state=Standing.done, step=step, total_steps=total_steps)
    wishes = [reason for reason in reasons if reason is not None]
    limit = f"stop_after={stop_after}" if stop_after is not None and step >= stop_after else None
    reason = limit or next(iter(wishes), None)
    return RunStatus(state=Standing.stopped, step=step, total_steps=total_steps, reason=reason)


def describe_ending(status: RunStatus, run_dir: Path) -> str:
    """Return one line on where the run stands and what to do next."""
    if status.state is Standing.done:
        return f"done: {status.step:,} steps; next: python -m pretrain.export run_dir={run_dir} output_dir=DIR"
    return (
        f"stopped on {status.reason} after step {status.step:,} of {status.total_steps:,}, saved; "
        "the same command goes on from there"
    )


def write_status(run_dir: Path, status: RunStatus) -> None:
    """Write `status.json`, whole or not at all, unless it says so already. Raises OSError naming the file."""
    content = asdict(status) | {"checkpoint": newest_tag(run_dir / "checkpoints")}
    path, data = run_dir / STATUS_FILE, json.dumps(content, ensure_ascii=False).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)


def write_ending(run_dir: Path, status: RunStatus) -> None:
    """Write `status.json`, and the end into `events.jsonl`. Raises OSError naming the file."""
    write_status(run_dir, status)
    append_event(run_dir, EventKind.end, state=status.state.value, step=status.step, reason=status.reason)


class FailureStatus:
    """Writes `failed` when its block ends in an error, with the step that `watch` knows of. Only rank 0 writes."""

    def __init__(self, run_dir: Path, running: RunStatus, watch: StepWatch, *, is_first: bool) -> None:
        self._run_dir, self._running, self._watch = run_dir, running, watch
        self._writes = is_first

    def __enter__(self) -> "FailureStatus":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self._writes:
            return
        is_plain = isinstance(error, ValueError | OSError)
        reason = str(error) if is_plain else f"{type(error).__name__}: {error}"
        status = replace(self._running, state=Standing.failed, step=self._watch.step, reason=reason)
        try:
            write_ending(self._run_dir, status)
        except OSError as trouble:  # the error itself is what the user must hear of
            print(f"WARNING: {trouble}; {STATUS_FILE} is not up to date", file=sys.stderr)
