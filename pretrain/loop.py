"""The training loop: a step, then what is due after it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pretrain.phases import RunState
from pretrain.step import StepResult
from pretrain.track.metrics import Record, StepSums, add_sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Every so many steps (0: never). All of it is done after the run's last step too, but for what never is."""

    log: int
    evaluate: int
    save: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What the loop does after a step, on every rank: each action knows which ranks have something to do."""

    measure: Callable[[StepSums], Record]  # the speed of a stretch, and what only the engine knows of its last step
    evaluate: Callable[[RunState], Record]
    save: Callable[[RunState, bool], None]  # true: nothing comes after it
    record: Callable[[Record], None]
    progress: Callable[[int, Record | None], None]
    note: Callable[[str], None]


def due(step: int, every: int) -> bool:
    """Return whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and step % every == 0


def train(
    steps: Iterable[StepResult], *, state: RunState, last_step: int, total_steps: int, every: Intervals, do: Actions
) -> RunState:
    """Go through `steps` and do what is due; return where the run stands.

    It ends with the steps, or after the step in which a rank asked to stop; the last step is always saved. What is
    logged is decided by the step alone: a run that was stopped and resumed logs the lines of one that was not.
    """
    stretch: StepSums | None = None  # since the last line; speed is a mean over it
    for result in steps:
        state = result.state
        stretch = result.sums if stretch is None else add_sums(stretch, result.sums)
        if result.note:
            do.note(result.note)
        last = result.stop_requested or state.step == last_step
        if result.stop_requested:  # the grace time may be short: what follows can be done without
            do.save(state, last)
        finished = state.step == total_steps
        evaluation_due = due(state.step, every.evaluate) or (finished and every.evaluate > 0)
        record: Record | None = None
        if due(state.step, every.log) or evaluation_due or finished:
            record = do.measure(stretch) | result.values
            stretch = None
            if evaluation_due:
                record |= do.evaluate(state)
            do.record(record)
        # Amid bad steps nothing new is worth keeping, and old checkpoints must not go for it.
        save_due = due(state.step, every.save) and state.bad_steps_in_a_row == 0
        if (save_due or last) and not result.stop_requested:
            do.save(state, last)
        do.progress(state.step, record)
        if result.stop_requested:
            break
    return state
