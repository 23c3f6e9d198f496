"""Lives and step times -> what a run has cost, what it will, and how long it takes from here. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.report.columns import Floats
from pretrain.report.history import History, Life, PhaseSpan

RECENT_LINES = 50  # the present pace is their median step time


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Device-hours of a run. A device is what one rank computes on."""

    spent: float  # from each start to its end
    on_steps: float  # of `spent`, on steps that count; the rest went to starts, evaluation, saves and steps run again
    to_come: float  # the remaining steps at the present pace, on as many devices; nothing but steps

    @property
    def planned(self) -> float:
        """What the whole run takes when nothing but steps costs anything."""
        return self.on_steps + self.to_come

    @property
    def expected(self) -> float:
        """What the run will have cost at its end."""
        return self.spent + self.to_come


def reckon_cost(history: History) -> Cost | None:
    """Return the cost of a run; None without events (of older releases) or before a step was timed."""
    left = seconds_left(history)
    if not history.lives or left is None:
        return None
    steps, seconds = history.columns.column("step_seconds")
    return Cost(
        spent=sum(life.seconds * life.world_size for life in history.lives) / 3600,
        on_steps=device_seconds_on_steps(steps, seconds, history.lives) / 3600,
        to_come=left * history.lives[-1].world_size / 3600,
    )


def device_seconds_on_steps(steps: Floats, seconds: Floats, lives: Sequence[Life]) -> float:
    """Return Σ step time × ranks over the steps that the lines of `metrics.jsonl` stand for.

    A line holds the mean over the steps since the line before it, or since the start of the life that wrote it. A
    life that went on from an older step has taken the lines beyond it away: each line is of the last life before it.
    """
    if not len(steps):
        return 0.0
    starts = np.array([life.first_step for life in lives], dtype=np.float64)
    # A life's lines lie beyond its own start, and not beyond the start of a later one.
    reach = np.minimum.accumulate(starts[::-1])[::-1]
    owner = np.maximum(np.searchsorted(reach, steps, side="left") - 1, 0)
    before = np.maximum(np.concatenate([[0.0], steps[:-1]]), reach[owner])
    ranks = np.array([life.world_size for life in lives], dtype=np.float64)[owner]
    return float(np.sum((steps - before) * seconds * ranks))


def seconds_left(history: History) -> float | None:
    """Return how long the remaining steps take at the present pace; evaluation, saves and starts not counted.

    A phase to come is reckoned at the tokens per second of the present one. None before a step was timed, or when
    the length of the run is not known.
    """
    steps, seconds = history.columns.column("step_seconds")
    if not len(steps) or history.total_steps is None:
        return None
    if not history.phases:
        return float(np.median(seconds[-RECENT_LINES:])) * (history.total_steps - history.step)
    present = history.phases[history.phase]
    recent = seconds[steps > present.first_step][-RECENT_LINES:]
    pace = float(np.median(recent if len(recent) else seconds[-RECENT_LINES:]))
    left = pace * (present.last_step - min(history.step, present.last_step))
    return left + sum(pace * _size(phase, present) for phase in history.phases[history.phase + 1 :])


def _size(phase: PhaseSpan, present: PhaseSpan) -> float:
    """Return the steps of a phase, counted in steps of the present one."""
    steps = phase.last_step - phase.first_step
    if phase.tokens_per_step is None or present.tokens_per_step is None:
        return steps
    return steps * phase.tokens_per_step / present.tokens_per_step
