"""`python -m benchmarks.optimizer_step`: the update alone, exact LAMB against torch's AdamW at every ZeRO stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch.distributed as dist

from benchmarks.bert import build_bert, compose_config, draw_batch
from benchmarks.ranks import run_on_ranks
from benchmarks.report import asks_for_quick, median_and_quartiles, megabytes, print_report
from pretrain.data.batch import MicroBatch
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.objective import loss_sums, normalised_loss

STAGES = (0, 1, 2, 3)
WORLD_SIZE = 2
KINDS = ("lamb", "adamw")
LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """What one rank measured at one stage."""

    seconds: dict[str, list[float]]  # per kind of optimizer and repetition, of Engine.step
    reduced_bytes: list[int]  # of every all_reduce inside one Lamb.step
    gradient_bytes: int


def main() -> None:
    """Measure every stage and print the table."""
    quick = asks_for_quick(__doc__)
    model, repetitions = ("tiny", 3) if quick else ("small", 25)
    rows = [describe(stage, run_on_ranks(WORLD_SIZE, measure_stage, stage, model, repetitions)) for stage in STAGES]
    print_report(
        ["ZeRO stage", "LAMB, ms", "AdamW, ms", "ratio", "LAMB adds, bytes", "calls", "gradients, MB", "added share"],
        rows,
        notes=[
            f"BERT-{model}, fp32, {WORLD_SIZE} ranks. Engine.step (norm, clipping, update, ZeRO's gathering), the "
            f"slower rank's time: median (quartiles) of {repetitions} alternating repetitions; ratio: median of the "
            "pairs' ratios. Bytes: what a rank hands to all_reduce inside one Lamb.step, beside its fp32 gradients."
        ],
        quick=quick,
    )


def describe(stage: int, times: list[StageTimes]) -> list[str]:
    """Return the row of one stage."""
    slower = {
        kind: [max(of_ranks) for of_ranks in zip(*(t.seconds[kind] for t in times), strict=True)] for kind in KINDS
    }
    ratios = [lamb / adamw for lamb, adamw in zip(slower["lamb"], slower["adamw"], strict=True)]
    added, gradients = sum(times[0].reduced_bytes), times[0].gradient_bytes
    return [
        str(stage),
        *(median_and_quartiles([1e3 * second for second in slower[kind]]) for kind in KINDS),
        f"{median(ratios):.2f}",
        f"{added:,}",
        str(len(times[0].reduced_bytes)),
        megabytes(gradients),
        f"{added / gradients:.1e}",
    ]


def measure_stage(ranks: Ranks, stage: int, model: str, repetitions: int) -> StageTimes:
    """Step both optimizers in turn, each on a model of its own; the first step of each is not timed."""
    overrides = (f"model={model}", "engine.precision=fp32", f"engine.zero_stage={stage}")
    engines = {kind: build_bert(compose_config(*overrides, f"optimizer={kind}"), ranks) for kind in KINDS}
    batch = draw_batch(ranks, sequences=4, max_length=64)
    reduced = count_reductions(engines["lamb"], lambda: timed_step(engines["lamb"], batch, ranks))
    timed_step(engines["adamw"], batch, ranks)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repetition in range(repetitions):
        for kind in KINDS if repetition % 2 else reversed(KINDS):
            seconds[kind].append(timed_step(engines[kind], batch, ranks))
    elements = sum(shape.numel() for shape in engines["lamb"].layout.shapes.values())
    return StageTimes(seconds=seconds, reduced_bytes=reduced, gradient_bytes=4 * elements)


def timed_step(engine: Engine, batch: MicroBatch, ranks: Ranks) -> float:
    """Run forward, backward and step; return the seconds of the step, begun on all ranks at once."""
    sums = loss_sums(engine.forward(batch), batch)
    loss = normalised_loss(sums, masked_tokens=ranks.world_size * len(batch.masked_lm_ids), pairs=8)
    engine.backward(loss, is_last=True)
    dist.barrier(group=ranks.control_group)
    started = time.perf_counter()
    engine.step(LEARNING_RATE)
    return time.perf_counter() - started


def count_reductions(engine: Engine, act: Callable[[], Any]) -> list[int]:
    """Return the bytes of every tensor that the optimizer's own `step` hands to all_reduce while `act` runs."""
    sizes: list[int] = []
    step, all_reduce = engine.optimizer.step, dist.all_reduce

    def counted(tensor: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *arguments, **options)

    def counted_step(*arguments: Any) -> None:
        with patch.object(dist, "all_reduce", counted):
            step(*arguments)

    with patch.object(engine.optimizer, "step", counted_step):
        act()
    return sizes


if __name__ == "__main__":
    main()
