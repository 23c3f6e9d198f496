"""How a run stands and what happened to it, in words. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pretrain.report.history import RUNNING, History
from pretrain.report.wording import counted, duration
from pretrain.track.events import Event, EventKind
from pretrain.track.run_files import STATUS_FILE

LONGEST_SILENCE_SECONDS = 120.0
LINES_OF_SILENCE = 10  # a running run that has not written for so many of its metric lines, and so long, is suspect
STARTING_SECONDS = 600.0  # a start may take so long to its first line: it builds the model and reads a checkpoint


class Told(NamedTuple):
    """An event in words."""

    time: datetime
    text: str


def describe_standing(history: History, now: datetime) -> str:
    """Return the run's state with its reason; of a running one, when it last gave a sign of life."""
    if not history.status:
        return f"state unknown: there is no {STATUS_FILE}"
    state, reason = history.status.get("state"), history.status.get("reason")
    if state != RUNNING:
        return f"{state}: {reason}" if reason else str(state)
    if history.last_sign is None:
        return RUNNING
    silence = (now - history.last_sign).total_seconds()
    if silence > longest_silence(history):
        return f"nothing written for {duration(silence)}: it hangs, or was killed and not started again"
    return f"running, last sign of life {duration(silence)} ago"


def longest_silence(history: History) -> float:
    """Return after how many seconds without a word a running run is suspect."""
    seconds = history.columns.newest("step_seconds") or 0.0
    every = history.config.get("tracking", {}).get("log_every", 1)
    is_starting = bool(history.lives) and history.columns.step <= history.lives[-1].first_step
    least = STARTING_SECONDS if is_starting else LONGEST_SILENCE_SECONDS
    return max(least, LINES_OF_SILENCE * seconds * every)


def describe_events(events: Sequence[Event]) -> Iterator[Told]:
    """Yield each event as one line, oldest first; starts name a change of the number of ranks."""
    ranks = None
    for event in events:
        yield Told(event.time, _describe(event, ranks))
        if event.kind is EventKind.start:
            ranks = event.values.get("world_size")


def _describe(event: Event, ranks_before: object) -> str:
    values, step = event.values, event.values.get("step", 0)
    match event.kind:
        case EventKind.start:
            return _describe_start(values, ranks_before)
        case EventKind.end:
            reason = f" ({values['reason']})" if values.get("reason") else ""
            return f"{values.get('state')} after step {step:,}{reason}"
        case EventKind.killed:
            return f"killed after step {step:,}, the last one logged; found when it started again"
        case EventKind.alert:
            return f"alert: {values.get('text')}"
        case EventKind.checkpoint_damaged:
            return f"{values.get('checkpoint')} is damaged and was set aside"


def _describe_start(values: dict[str, Any], ranks_before: object) -> str:
    ranks, origin = values.get("world_size"), values.get("checkpoint")
    begin = f"goes on from {origin}" if origin else "starts from scratch"
    changed = f" (before: {ranks_before})" if ranks_before not in (None, ranks) else ""
    git = values.get("git")
    commit = f", commit {git['commit'][:10]}{' and changes' * git['dirty']}" if isinstance(git, dict) else ""
    return (
        f"{begin} on {ranks}{changed} × {values.get('device')}, {counted(values.get('hosts', 1), 'host')}, "
        f"{values.get('precision')}, ZeRO stage {values.get('zero_stage')}{commit}"
    )
