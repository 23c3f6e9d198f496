"""One optimizer step: forward and backward over its micro-batches, the update, and what all ranks agree on after it."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from pretrain.config import PhaseConfig
from pretrain.data.feed import StepBatches, StepCounts, feed_steps
from pretrain.data.order import PhaseOrder
from pretrain.data.reader import BlockReader
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.objective import loss_sums, normalised_loss
from pretrain.phases import RunState, locate
from pretrain.schedule import learning_rate
from pretrain.seeds import dropout_seed
from pretrain.stop import StopRequest
from pretrain.track.metrics import Record, StepSums, loss_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseData:
    """One phase with its order and the reader of its shards."""

    config: PhaseConfig
    order: PhaseOrder
    reader: BlockReader


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A finished step: where the run stands after it, its global sums, and the values that only this step has."""

    state: RunState
    sums: StepSums
    values: Record
    stop_requested: bool  # by any rank; the same on all


def run_steps(
    engine: Engine,
    phases: Sequence[PhaseData],
    ranks: Ranks,
    *,
    state: RunState,
    last_step: int,
    seed: int,
    stop: StopRequest,
) -> Iterator[StepResult]:
    """Yield after each optimizer step from `state` up to `last_step` steps of the run, through its phases."""
    while state.step < last_step:
        index, first = locate([phase.config for phase in phases], state.step)
        phase = phases[index]
        steps = range(first, min(phase.config.max_steps, first + last_step - state.step))
        feed = feed_steps(
            phase.order,
            phase.reader,
            ranks,
            micro_batch_size=phase.config.data.micro_batch_size,
            steps=steps,
        )
        for step in steps:
            result = _run_step(engine, phase, index, feed, ranks, state=state, step=step, seed=seed, stop=stop)
            state = result.state
            yield result


def _run_step(
    engine: Engine,
    phase: PhaseData,
    phase_index: int,
    feed: Iterator[StepBatches],
    ranks: Ranks,
    *,
    state: RunState,
    step: int,
    seed: int,
    stop: StopRequest,
) -> StepResult:
    started = time.perf_counter()
    batches = next(feed)
    waited = time.perf_counter() - started
    config, counts = phase.config, batches.counts
    rate = learning_rate(step, max_steps=config.max_steps, peak=config.learning_rate, schedule=config.lr_schedule)
    losses = accumulate_gradients(engine, batches, ranks.device, seed=seed, phase=phase_index, step=step)
    grad_norm = engine.step(rate)
    agreed = _agree(losses, stop, waited, ranks)
    state = replace(
        state,
        step=state.step + 1,
        sequences_seen=state.sequences_seen + counts.sequences,
        tokens_seen=state.tokens_seen + counts.tokens,
    )
    if not math.isfinite(agreed.mlm_loss + agreed.nsp_loss + grad_norm):
        ranks.together(lambda: _refuse_to_go_on(state.step, agreed.mlm_loss + agreed.nsp_loss, grad_norm))
    sums = _step_sums(agreed, counts, seconds=time.perf_counter() - started)
    values: Record = {
        "step": state.step,
        "phase": phase_index,
        "epoch": phase.order.epoch_of(step + 1),
        **loss_metrics(sums),
        "learning_rate": rate,
        "grad_norm": grad_norm,
        "tokens_seen": state.tokens_seen,
        "sequences_seen": state.sequences_seen,
        "sequence_hash": counts.sequence_hash,
    }
    return StepResult(state=state, sums=sums, values=values, stop_requested=agreed.stops > 0)


class _Agreed(NamedTuple):
    """What one reduction after the update tells all ranks: sums over ranks, the wait their mean."""

    mlm_loss: float
    mlm_correct: float
    nsp_loss: float
    nsp_correct: float
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


def _refuse_to_go_on(step: int, loss_sum: float, grad_norm: float) -> None:
    """Raise ValueError: DeepSpeed skips such a step without a word, or the weights are not numbers any more."""
    raise ValueError(
        f"step {step}: the summed loss is {loss_sum:g} and the gradient norm {grad_norm:g}, the training has diverged; "
        "no checkpoint was touched. Lower optimizer.learning_rate or lengthen lr_schedule.warmup_steps"
    )


def accumulate_gradients(
    engine: Engine, batches: StepBatches, device: torch.device, *, seed: int, phase: int, step: int
) -> torch.Tensor:
    """Run every micro-batch forward and backward; return this rank's loss sums and right answers, float64 [4].

    Dropout is seeded per micro-batch, so that neither a resume nor another owner of the stream changes it.
    """
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    last = len(batches.micro_batches) - 1
    for number, (batch, weight, stream, micro_batch) in enumerate(batches.micro_batches):
        torch.manual_seed(dropout_seed(seed, phase=phase, step=step, stream=stream, micro_batch=micro_batch))
        moved = batch.to(device)
        sums = loss_sums(engine.forward(moved), moved)
        loss = normalised_loss(sums, masked_tokens=batches.counts.masked_tokens, pairs=batches.counts.pairs)
        engine.backward(loss * weight, is_last=number == last)
        totals += torch.stack(sums).detach().double() * weight
    return totals
