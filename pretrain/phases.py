"""Where a run stands: the list of phases laid end to end, and the few counters that a checkpoint keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pretrain.config import PhaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """All that a run knows of its past besides weights and optimizer state. `step` counts finished optimizer steps."""

    step: int = 0
    sequences_seen: int = 0
    tokens_seen: int = 0
    skipped_steps: int = 0  # without an update: no finite loss or gradient, fp16 overflows included
    bad_steps_in_a_row: int = 0  # up to this one: skipped, and not for an fp16 overflow


class Position(NamedTuple):
    """The phase that a step belongs to, and the step's number within it."""

    phase: int
    step: int


def total_steps(phases: Sequence[PhaseConfig]) -> int:
    """Return the optimizer steps of the whole run."""
    return sum(phase.max_steps for phase in phases)


def locate(phases: Sequence[PhaseConfig], step: int) -> Position:
    """Return where step number `step` of the run (from 0) lies. Raises ValueError beyond the last phase."""
    left = step
    for index, phase in enumerate(phases):
        if left < phase.max_steps:
            return Position(index, left)
        left -= phase.max_steps
    raise ValueError(f"step {step} lies beyond the {total_steps(phases)} steps of the run")
