"""Whether the time between a signal and a kill lasts for what a run does in it: one step and two saves."""

import math
from contextlib import suppress
from pathlib import Path

from conf.checks import require
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import decode_record

STEP_SECONDS = "step_seconds"
SAVE_SECONDS = "save_seconds"
NUM_LINES = 100


def require_grace(grace_seconds: float, metrics_file: Path) -> str:
    """Return one line on the grace time against what this run was measured to take, if it was.

    A signal may come at the beginning of a step, while a checkpoint is on its way: that one is waited for, and another
    follows. Raises ValueError when the slowest step and twice the slowest save of the last lines take longer.
    """
    lines = last_lines(metrics_file)
    step, save = slowest(lines, STEP_SECONDS), slowest(lines, SAVE_SECONDS)
    if step is None and save is None:
        return f"grace: {grace_seconds:g} s; nothing is measured yet: one step and two saves must fit"
    measured = f"a step of {_seconds(step)} and two saves of {_seconds(save)}, the slowest of late"
    needed = math.ceil((step or 0.0) + 2 * (save or 0.0))
    require(
        grace_seconds >= needed, "grace_seconds", grace_seconds, f"at least {needed}: {metrics_file} has {measured}"
    )
    return f"grace: {grace_seconds:g} s for {measured}"


def last_lines(metrics_file: Path) -> list[Record]:
    """Return the last records of a metrics file, without those that cannot be read; none when there is no file."""
    records = []
    for line in metrics_file.read_bytes().splitlines()[-NUM_LINES:] if metrics_file.is_file() else ():
        with suppress(ValueError):  # torn by a kill: the next start moves it
            records.append(decode_record(line))
    return records


def slowest(records: list[Record], key: str) -> float | None:
    """Return the highest value of a metric; None when no record has it."""
    values = [value for record in records if isinstance(value := record.get(key), int | float)]
    return max(values, default=None)


def _seconds(value: float | None) -> str:
    return "a time not measured yet" if value is None else f"{value:.1f} s"
