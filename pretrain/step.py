"""One optimizer step: forward and backward over its micro-batches, what all ranks agree on, and the update."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from data_prep.masking import MaskingRules
from pretrain.bad_step import MOST_PLACES, places_of, refuse_to_go_on, skipped_note, suspect_places
from pretrain.config import OptimizerState, PhaseConfig
from pretrain.data.feed import StepBatches, StepCounts, feed_steps
from pretrain.data.order import PhaseOrder
from pretrain.data.reader import BlockReader
from pretrain.distillation.losses import DistillationLosses
from pretrain.distillation.teacher import Teacher
from pretrain.distributed import Ranks
from pretrain.engine import Engine, LossScaleError
from pretrain.engine_config import Precision
from pretrain.objective import loss_sums, normalised_loss
from pretrain.own_times import ForwardClock, OwnTimes
from pretrain.phases import Position, RunState, locate
from pretrain.schedule import learning_rate
from pretrain.seeds import dropout_seed
from pretrain.stop import StopRequest
from pretrain.track.metrics import Record, StepSums, loss_metrics

Feed = Iterator[StepBatches]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseData:
    """One phase with its order and the reader of its shards."""

    config: PhaseConfig
    order: PhaseOrder
    reader: BlockReader
    masking: MaskingRules | None = None  # how masks are drawn; None: the shards hold them


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What every step of a run works with."""

    engine: Engine
    phases: Sequence[PhaseData]
    ranks: Ranks
    stop: StopRequest
    seed: int
    max_bad_steps: int  # so many in a row end the run
    checkpoints: Path  # named when it ends so
    teacher: Teacher | None = None  # whom the model imitates


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A finished step: where the run stands after it, its global sums, and the values that only this step has."""

    state: RunState
    sums: StepSums
    values: Record
    note: str | None  # what the user must hear of it
    stop_requested: bool  # by any rank; the same on all
    own_times: OwnTimes = field(default_factory=OwnTimes)  # of this rank


def run_steps(training: Training, *, state: RunState, last_step: int) -> Iterator[StepResult]:
    """Yield after each optimizer step from `state` up to `last_step` steps of the run, through its phases.

    A step without a finite loss and gradient changes nothing and counts as skipped. Raises ValueError on all ranks
    after `max_bad_steps` such steps in a row.
    """
    clock = ForwardClock(training.ranks.device)
    while state.step < last_step:
        index, first = locate([phase.config for phase in training.phases], state.step)
        phase = training.phases[index]
        steps = range(first, min(phase.config.max_steps, first + last_step - state.step))
        feed = feed_steps(
            phase.order,
            phase.reader,
            training.ranks,
            micro_batch_size=phase.config.data.micro_batch_size,
            steps=steps,
            masking=phase.masking,
        )
        if index > 0 and first == 0 and phase.config.optimizer_state is OptimizerState.reset:
            training.engine.reset_optimizer()
        for step in steps:
            result = _run_step(training, Position(index, step), feed, state, clock)
            state = result.state
            yield result


def _run_step(training: Training, at: Position, feed: Feed, state: RunState, clock: ForwardClock) -> StepResult:
    started = time.perf_counter()
    batches = next(feed)
    waited = time.perf_counter() - started
    phase, counts = training.phases[at.phase], batches.counts
    rate = _rate(phase.config, at.step)
    losses = accumulate_gradients(
        training.engine,
        batches,
        training.ranks.device,
        seed=training.seed,
        phase=at.phase,
        step=at.step,
        teacher=training.teacher,
        clock=clock,
    )
    own = OwnTimes(forward=clock.take_mean() * len(batches.micro_batches), reading=batches.reading_seconds)
    agreed = _agree(losses.sum(dim=0), training.stop, waited, training.ranks)
    loss_sum = agreed.mlm_loss + agreed.nsp_loss + agreed.soft_loss + agreed.hidden_loss
    loss_is_finite = math.isfinite(loss_sum)
    try:
        grad_norm = training.engine.step(rate, hold=not loss_is_finite)
    except LossScaleError:
        _give_up(training, phase, batches, losses, at.step, _advance(state, counts, skipped=True, is_bad=True))
    skipped = not (loss_is_finite and math.isfinite(grad_norm))
    # An overflow of fp16's scaled gradients is part of finding the scale.
    is_bad = skipped and not (loss_is_finite and training.engine.config.precision is Precision.fp16)
    state = _advance(state, counts, skipped=skipped, is_bad=is_bad)
    sums = _step_sums(agreed, counts, seconds=time.perf_counter() - started)
    values: Record = {
        "step": state.step,
        "phase": at.phase,
        "epoch": phase.order.epoch_of(at.step + 1),
        **loss_metrics(sums),
        "learning_rate": rate,
        "grad_norm": grad_norm,
        "tokens_seen": state.tokens_seen,
        "sequences_seen": state.sequences_seen,
        "sequence_hash": counts.sequence_hash,
        "skipped_steps": state.skipped_steps,
        "loss_scale": training.engine.loss_scale,
    }
    if training.teacher is not None:
        values |= training.teacher.metrics(agreed.soft_loss, agreed.hidden_loss, counts)
    if state.bad_steps_in_a_row >= training.max_bad_steps:
        _give_up(training, phase, batches, losses, at.step, state)
    note = skipped_note(state, loss_sum, grad_norm) if skipped else None
    return StepResult(state=state, sums=sums, values=values, note=note, stop_requested=agreed.stops > 0, own_times=own)


def _rate(config: PhaseConfig, step: int) -> float:
    return learning_rate(step, max_steps=config.max_steps, peak=config.learning_rate, schedule=config.lr_schedule)


def _advance(state: RunState, counts: StepCounts, *, skipped: bool, is_bad: bool) -> RunState:
    return replace(
        state,
        step=state.step + 1,
        sequences_seen=state.sequences_seen + counts.sequences,
        tokens_seen=state.tokens_seen + counts.tokens,
        skipped_steps=state.skipped_steps + skipped,
        bad_steps_in_a_row=state.bad_steps_in_a_row + 1 if is_bad else 0,
    )


def _give_up(
    training: Training, phase: PhaseData, batches: StepBatches, losses: torch.Tensor, step: int, state: RunState
) -> NoReturn:
    """Raise ValueError on all ranks, with the places that any of them suspects, or else where the streams stand."""
    order, reader, size = phase.order, phase.reader, phase.config.data.micro_batch_size
    suspects = suspect_places(batches.micro_batches, losses, order, reader, step=step, size=size)
    found = [place for places in training.ranks.gather(suspects) for place in places]
    training.ranks.broadcast(
        lambda: refuse_to_go_on(
            state,
            (found or places_of(order, reader, stream=0, step=step))[:MOST_PLACES],
            shards_dir=phase.config.shards_dir,
            checkpoints=training.checkpoints,
        )
    )
    raise AssertionError("the broadcast of an error raises it")


class _Agreed(NamedTuple):
    """What one reduction before the update tells all ranks: sums over ranks, the wait their mean."""

    mlm_loss: float
    mlm_correct: float
    nsp_loss: float
    nsp_correct: float
    soft_loss: float  # this and the next are 0 without a teacher
    hidden_loss: float
    stops: float  # ranks that were asked to stop
    data_wait_seconds: float


def _agree(losses: torch.Tensor, stop: StopRequest, waited: float, ranks: Ranks) -> _Agreed:
    mine = [*losses.tolist(), float(stop.requested), waited / ranks.world_size]
    return _Agreed(*ranks.sum(torch.tensor(mine, dtype=torch.float64)).tolist())


def _step_sums(agreed: _Agreed, counts: StepCounts, *, seconds: float) -> StepSums:
    return StepSums(
        mlm_loss_sum=agreed.mlm_loss,
        mlm_correct=int(agreed.mlm_correct),
        masked_tokens=counts.masked_tokens,
        nsp_loss_sum=agreed.nsp_loss,
        nsp_correct=int(agreed.nsp_correct),
        pairs=counts.pairs,
        steps=1,
        tokens=counts.tokens,
        sequences=counts.sequences,
        squared_lengths=counts.squared_lengths,
        computed_tokens=counts.computed_tokens,
        seconds=seconds,
        data_wait_seconds=agreed.data_wait_seconds,
    )


def accumulate_gradients(
    engine: Engine,
    batches: StepBatches,
    device: torch.device,
    *,
    seed: int,
    phase: int,
    step: int,
    teacher: Teacher | None = None,
    clock: ForwardClock | None = None,
) -> torch.Tensor:
    """Run every micro-batch forward and backward; return float64 [micro-batches, 6].

    A row has the sums of `BatchLosses` and of `DistillationLosses`, which are 0 without a teacher. Dropout is seeded
    per micro-batch, so that neither a resume nor another owner of the stream changes it. Fillers are rows of zeros,
    and `clock` leaves them out.
    """
    rows, zero = [], torch.zeros((), device=device)
    last = len(batches.micro_batches) - 1
    for number, (batch, weight, stream, micro_batch) in enumerate(batches.micro_batches):
        torch.manual_seed(dropout_seed(seed, phase=phase, step=step, stream=stream, micro_batch=micro_batch))
        moved = batch.to(device)
        with clock.measure() if clock is not None and weight else nullcontext():
            output = engine.forward(moved)
        sums = loss_sums(output, moved)
        if teacher is None:
            imitation = DistillationLosses(soft_loss=zero, hidden_loss=zero)
            loss = normalised_loss(sums, masked_tokens=batches.counts.masked_tokens, pairs=batches.counts.pairs)
        else:
            imitation = teacher.loss_sums(output, moved)
            loss = teacher.loss(sums, imitation, batches.counts)
        engine.backward(loss * weight, is_last=number == last)
        rows.append(torch.stack([*sums, *imitation]).detach().double() * weight)
    return torch.stack(rows).cpu()
