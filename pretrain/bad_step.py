"""What is said of a step without a finite loss and gradient: at first that it was skipped, in the end where to look."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from pretrain.checkpoint.save import newest_tag
from pretrain.data.feed import WeightedBatch
from pretrain.data.order import PhaseOrder, step_rows
from pretrain.data.reader import BlockReader
from pretrain.phases import RunState

MOST_PLACES = 8  # named in a message; one is enough to begin with


def skipped_note(state: RunState, loss: float, grad_norm: float) -> str:
    """Return one line on the step that `state` ends with, which was skipped. `loss` is the sum over its tokens."""
    return (
        f"warning: step {state.step:,} was skipped: summed loss {loss:g}, gradient norm {grad_norm:g}; weights and "
        f"optimizer state are as before it (skipped so far: {state.skipped_steps:,})"
    )


def suspect_places(
    batches: Sequence[WeightedBatch], losses: Tensor, order: PhaseOrder, reader: BlockReader, *, step: int, size: int
) -> list[str]:
    """Return the places, SHARD:BLOCK:ROW, of the first of this rank's sequences whose loss is not finite.

    `losses` is float64 [micro-batches, 6], as `accumulate_gradients` returns it; `step` counts within the phase;
    `size` is the micro-batch size. A sequence is a suspect with all of its micro-batch; where every loss is finite (the
    gradient is not), none is.
    """
    finite = losses.sum(dim=1).isfinite().tolist()
    places: list[str] = []
    for (_, weight, stream, micro_batch), is_finite in zip(batches, finite, strict=True):
        if weight and not is_finite and len(places) < MOST_PLACES:
            first = micro_batch * size
            places += places_of(order, reader, stream=stream, step=step)[first : first + size]
    return places[:MOST_PLACES]


def places_of(order: PhaseOrder, reader: BlockReader, *, stream: int, step: int) -> list[str]:
    """Return where the sequences lie that a stream gives to the phase's step, in order, as SHARD:BLOCK:ROW."""
    runs = step_rows(order, stream=stream, step=step, block_sequences=reader.block_sequences)
    return [f"{reader.shard_name(run.shard)}:{run.block}:{row}" for run in runs for row in run.rows.tolist()]


def refuse_to_go_on(state: RunState, places: Sequence[str], *, shards_dir: str, checkpoints: Path) -> NoReturn:
    """Raise ValueError: where the run stood, what it was reading, and what it can go back to."""
    tag = newest_tag(checkpoints)
    good = f"the last good checkpoint is {checkpoints / tag}" if tag else "no checkpoint was saved before"
    raise ValueError(
        f"step {state.step:,} was the last of {state.bad_steps_in_a_row} in a row without a finite loss and gradient: "
        f"the training has diverged, or the data is broken; {good}. It was reading {', '.join(places)}: "
        f"see `python -m data_prep.show {shards_dir} --at {places[0]}`. Lower optimizer.learning_rate or lengthen "
        "lr_schedule.warmup_steps (resume.allow permits it), or raise max_bad_steps"
    )
