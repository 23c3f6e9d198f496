"""`RUN_DIR/events.jsonl`: one line per start, end and alert of a run, and per kill or loss that a start finds."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pretrain.track.metrics_file import METRICS_FILE, last_logged_step
from pretrain.track.run_files import STATUS_FILE

EVENTS_FILE = "events.jsonl"

logger = logging.getLogger(__name__)


class EventKind(StrEnum):
    """What happened to a run. A start without an end was killed; the next start adds the `killed` that it lacks."""

    start = "start"
    end = "end"  # with `state`, as status.json has it, and `reason`
    killed = "killed"  # its time is the last sign of life, its step the last one that was logged
    checkpoint_damaged = "checkpoint_damaged"
    alert = "alert"  # a trouble that `pretrain.track.alerts` tells of


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the file; `values` are its other fields."""

    time: datetime
    kind: EventKind
    values: dict[str, Any]


def append_event(run_dir: Path, kind: EventKind, *, at: datetime | None = None, **values: Any) -> None:
    """Add a line to `events.jsonl`, at the present time (UTC) unless told. Raises OSError naming the file."""
    time = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    path = run_dir / EVENTS_FILE
    line = json.dumps({"time": time, "event": kind.value, **values}, ensure_ascii=False).encode() + b"\n"
    try:
        torn = path.is_file() and not path.read_bytes().endswith(b"\n")
        with path.open("ab") as file:
            file.write(b"\n" + line if torn else line)
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}); free or mend its disk") from error


def read_events(run_dir: Path) -> list[Event]:
    """Return the events of a run, oldest first; none when the file is missing, as in runs of older releases.

    A line that cannot be read (a full disk or a power cut tore it) is left out, with a warning.
    """
    path = run_dir / EVENTS_FILE
    events = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        try:
            values = json.loads(line)
            time, kind = datetime.fromisoformat(values.pop("time")), EventKind(values.pop("event"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s, line %d: left out, it cannot be read (%s)", path, number, error)
        else:
            events.append(Event(time=time.astimezone(UTC), kind=kind, values=values))
    return events


def write_start(run_dir: Path, *, damaged: Sequence[str], **values: Any) -> None:
    """Add a start with `values`; before it, the kill of the start before, if it left no end, and `damaged` tags.

    Call it before this start touches any of the files that `last_sign` looks at.
    """
    lives = [
        event for event in read_events(run_dir) if event.kind in (EventKind.start, EventKind.end, EventKind.killed)
    ]
    if lives and lives[-1].kind is EventKind.start:
        step = max(last_logged_step(run_dir / METRICS_FILE), lives[-1].values.get("step", 0))
        append_event(run_dir, EventKind.killed, at=last_sign(run_dir), step=step)
    for tag in damaged:
        append_event(run_dir, EventKind.checkpoint_damaged, checkpoint=tag)
    append_event(run_dir, EventKind.start, **values)


def last_sign(run_dir: Path) -> datetime | None:
    """Return when a run last wrote metrics, events, its status or a checkpoint; None when there is none of them."""
    paths = [run_dir / name for name in (METRICS_FILE, EVENTS_FILE, STATUS_FILE)]
    seen = [path.stat().st_mtime for path in (*paths, run_dir / "checkpoints") if path.exists()]
    return datetime.fromtimestamp(max(seen), UTC) if seen else None
