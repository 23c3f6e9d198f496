"""`python -m benchmarks.save_stall`: how long a save holds the training, and what steps lose while it is written."""

import io
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median

from benchmarks.bert import VOCAB_SIZE
from benchmarks.ranks import run_on_ranks
from benchmarks.report import asks_for_quick, median_and_quartiles, megabytes, print_report
from benchmarks.timeline import Timeline, lasted, timed, timed_steps
from conf.compose import compose
from pretrain.__main__ import run
from pretrain.checkpoint import saver
from pretrain.checkpoint.restore import newest_checkpoint
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.stop import StopRequest
from tests.shards import write_shards

WORLD_SIZE = 2
STEPS_PER_SAVE = 10
SETTINGS = [
    "data.global_batch_size=8",
    "data.micro_batch_size=4",
    "data.num_streams=2",
    f"checkpoint.save_every={STEPS_PER_SAVE}",
    "checkpoint.keep_last=1",
    "evaluation.every=0",
    "tracking=none",
]


def main() -> None:
    """Train with both ways of saving in turn and print the table."""
    quick = asks_for_quick(__doc__)
    model, saves, rounds = ("tiny", 2, 1) if quick else ("small", 5, 3)
    timelines: dict[bool, list[Timeline]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        shards = write_shards(Path(folder) / "shards", blocks=8, vocab_size=VOCAB_SIZE, max_length=128)
        for number in range(rounds):
            for asynchronous in (True, False):
                run_dir = Path(folder) / f"run-{number}-{asynchronous}"
                overrides = [f"shards_dir={shards}", f"run_dir={run_dir}", f"model={model}", *SETTINGS]
                overrides += [f"checkpoint.asynchronous={asynchronous}", f"stop_after={(saves + 1) * STEPS_PER_SAVE}"]
                timelines[asynchronous].append(run_on_ranks(WORLD_SIZE, train, overrides)[0])
        size = sum(path.stat().st_size for path in newest_checkpoint(run_dir).iterdir())
    print_report(
        [
            "checkpoint.asynchronous",
            "step, ms",
            "step while writing, ms",
            "steps while writing",
            "first save holds, ms",
            "later saves hold, ms",
            "writing, ms",
            "a save costs, ms",
        ],
        [describe(asynchronous, timelines[asynchronous]) for asynchronous in (True, False)],
        notes=[
            f"BERT-{model}, ZeRO-1, bf16, {WORLD_SIZE} ranks, a checkpoint of {megabytes(size)} MB every "
            f"{STEPS_PER_SAVE} steps; {rounds} runs of each kind in turn with {saves} saves each; medians (quartiles), "
            "rank 0's clock. What a save costs: what it holds, and what the steps meanwhile take beyond the median of "
            "the others."
        ],
        quick=quick,
    )


def describe(asynchronous: bool, timelines: list[Timeline]) -> list[str]:
    """Return the row of one way of saving."""
    quiet = [lasted(step) for line in timelines for step in line.steps[1:] if not line.writing(step)]
    busy = [lasted(step) for line in timelines for step in line.steps if line.writing(step)]
    later = [lasted(hold) for line in timelines for hold in line.holds[1:]]
    num_saves = sum(len(line.holds) for line in timelines)
    steps_per_save, slower = len(busy) / num_saves, sum(busy) / num_saves - len(busy) / num_saves * median(quiet)
    return [
        str(asynchronous).lower(),
        median_and_quartiles(milliseconds(quiet), 0),
        median_and_quartiles(milliseconds(busy), 0) if len(busy) > 1 else "none",
        f"{steps_per_save:.1f} a save",
        f"{1e3 * median(lasted(line.holds[0]) for line in timelines):,.0f}",
        median_and_quartiles(milliseconds(later), 0) if len(later) > 1 else f"{1e3 * later[0]:,.0f}",
        median_and_quartiles(milliseconds([lasted(write) for line in timelines for write in line.writes]), 0),
        f"{1e3 * (median(later) + slower):,.0f}",
    ]


def milliseconds(seconds: list[float]) -> list[float]:
    """Return seconds as milliseconds."""
    return [1e3 * value for value in seconds]


def train(ranks: Ranks, overrides: list[str]) -> Timeline:
    """Train by the entry of `python -m pretrain`; return the timeline without the last save, which always holds."""
    timeline = Timeline()
    with (
        timed_steps(timeline.steps),
        timed(saver.Saver, "save", timeline.holds),
        timed(saver, "write_checkpoint", timeline.writes),
        redirect_stderr(io.StringIO()),
    ):
        run(compose("pretrain", PretrainConfig, overrides), ranks, StopRequest())
    del timeline.holds[-1], timeline.writes[-1]
    return timeline


if __name__ == "__main__":
    main()
