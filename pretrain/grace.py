"""Whether the time between a signal and a kill lasts for what a run does in it: one step and two saves."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from conf.checks import require
from pretrain.track.events import Event, EventKind, read_events
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import METRICS_FILE, decode_record

STEP_SECONDS = "step_seconds"
SAVE_SECONDS = "save_seconds"
NUM_LINES = 100


def require_grace(grace_seconds: float, run_dir: Path, *, world_size: int, num_streams: int) -> str:
    """Return one line on the grace time against what this run was measured to take, if it was.

    A signal may come at the beginning of a step, while a checkpoint is on its way: that one is waited for, and another
    follows. Raises ValueError when the slowest step and twice the slowest save of the last lines take longer.
    """
    metrics_file = run_dir / METRICS_FILE
    lines = on_fewer_ranks(last_lines(metrics_file), read_events(run_dir), world_size, num_streams)
    step, save = slowest(lines, STEP_SECONDS), slowest(lines, SAVE_SECONDS)
    if step is None and save is None:
        return f"grace: {grace_seconds:g} s; nothing is measured yet: one step and two saves must fit"
    measured = f"a step of {_seconds(step)} and two saves of {_seconds(save)} on {world_size} ranks"
    needed = math.ceil((step or 0.0) + 2 * (save or 0.0))
    remedy = f"at least {needed}, for {measured}, the slowest of late in {metrics_file}"
    require(grace_seconds >= needed, "grace_seconds", grace_seconds, remedy)
    return f"grace: {grace_seconds:g} s for {measured}"


def on_fewer_ranks(
    records: Sequence[Record], events: Sequence[Event], world_size: int, num_streams: int
) -> list[Record]:
    """Return the records with their times as `world_size` ranks would take, where they were measured on more.

    A rank goes through its streams one after the other and writes its part of a checkpoint: with fewer ranks both take
    longer. What more ranks gain is not counted on.
    """
    reckoned = []
    for record in records:
        before = max(world_size, ranks_at(record["step"], events) or 0)
        longer = {
            STEP_SECONDS: math.ceil(num_streams / world_size) / math.ceil(num_streams / before),
            SAVE_SECONDS: before / world_size,
        }
        times: Record = {
            key: value * factor for key, factor in longer.items() if isinstance(value := record.get(key), float)
        }
        reckoned.append(record | times)
    return reckoned


def ranks_at(step: object, events: Sequence[Event]) -> int | None:
    """Return on how many ranks `step` ran: those of the last start before it. None when no event tells."""
    assert isinstance(step, int)
    starts = [event.values for event in events if event.kind is EventKind.start]
    return next((start.get("world_size") for start in reversed(starts) if start.get("step", 0) < step), None)


def last_lines(metrics_file: Path) -> list[Record]:
    """Return the last records of a metrics file, without those that cannot be read; none when there is no file."""
    records = []
    for line in metrics_file.read_bytes().splitlines()[-NUM_LINES:] if metrics_file.is_file() else ():
        with suppress(ValueError):  # torn by a kill: the next start moves it
            records.append(decode_record(line))
    return records


def slowest(records: Sequence[Record], key: str) -> float | None:
    """Return the highest value of a metric; None when no record has it."""
    values = [value for record in records if isinstance(value := record.get(key), int | float)]
    return max(values, default=None)


def _seconds(value: float | None) -> str:
    return "a time not measured yet" if value is None else f"{value:.1f} s"
