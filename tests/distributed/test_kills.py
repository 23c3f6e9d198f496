"""SIGKILL and preemption at random moments, over and over: the run ends as if nothing had happened, to the last bit."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pretrain.__main__ import run
from pretrain.checkpoint.restore import load_full_weights, newest_checkpoint
from pretrain.checkpoint.save import list_tags, tag_of
from pretrain.distributed import Ranks
from pretrain.stop import StopRequest
from pretrain.track.metrics_file import DISCARDED_FILE, TORN_LINE, decode_record
from tests.distributed.kills import (
    COLLECTIVE_TIMEOUT_SECONDS,
    WORLD_SIZE,
    Kill,
    KilledRun,
    Life,
    Moment,
    finish,
)
from tests.distributed.runs import (
    EXACT,
    STAGES,
    TINY,
    cpu_multiplies_fp16,
    engine_overrides,
    lines,
    tiny_config,
    train_run,
)
from tests.shards import write_shards

SEED = 6
MAIN_ENGINE = engine_overrides(2, "bf16")
NO_FP16 = pytest.mark.skipif(not cpu_multiplies_fp16(), reason="the command refuses fp16: no avx512_fp16 on this CPU")
OTHER_ENGINES = [
    *((*pair, False) for pair in STAGES if pair != (2, "bf16")),
    *((*pair, True) for pair in ((1, "fp32"), (2, "bf16"), (3, "bf16"))),
    *(pytest.param(stage, "fp16", False, marks=NO_FP16) for stage in (1, 2, 3)),
]
ALL = tuple(range(WORLD_SIZE))
VICTIMS = (ALL, *((rank,) for rank in ALL))
TIMES = {Moment.START: 2, Moment.STEP: 3, Moment.SAVE: 3, Moment.SAVED: 2}
THIRTY_KILLS = [
    Kill(moment=moment, ranks=ranks) for ranks in VICTIMS for moment, times in TIMES.items() for _ in range(times)
]
THREE_KILLS = [
    Kill(moment=Moment.STEP, ranks=(1,)),
    Kill(moment=Moment.SAVE, ranks=ALL),
    Kill(moment=Moment.START, ranks=(0,)),
]
TWO_KILLS = [Kill(moment=Moment.STEP, ranks=(1,)), Kill(moment=Moment.SAVE, ranks=ALL)]


@pytest.fixture
def shards(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


def discarded_lines(run_dir: Path) -> list[tuple]:
    raw = (run_dir / DISCARDED_FILE).read_bytes().splitlines()
    records = [decode_record(line) for line in raw if TORN_LINE.encode() not in line]
    return [tuple(record.get(key) for key in EXACT) for record in records]


def assert_same_run(cut: Path, whole: Path) -> None:
    """Lines and final weights of two finished runs are equal to the last bit."""
    assert lines(cut) == lines(whole)
    weights, expected = load_full_weights(newest_checkpoint(cut)), load_full_weights(newest_checkpoint(whole))
    assert weights.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(weights[name], expected[name])] == []


def kill_and_compare(shards: Path, engine: list[str], kills: list[Kill], seed: int) -> Counter[Moment]:
    """Kill a run and let it finish, hold it against one that nobody disturbed; return what the kills hit, how often."""
    print(f"seed {seed}")
    draw = random.Random(seed)
    max_steps = 24 + 12 * len(kills)

    def command(run_dir: Path) -> list[str]:
        own = [f"max_steps={max_steps}", f"engine.collective_timeout_seconds={COLLECTIVE_TIMEOUT_SECONDS}"]
        own += ["checkpoint.save_every=3"]
        return [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *engine, *own]

    whole, cut = shards.parent / "whole", shards.parent / "cut"
    start_seconds = finish(command(whole), whole)
    killed = KilledRun(arguments=command(cut), run_dir=cut, draw=draw, start_seconds=start_seconds)
    hits = killed.kill_repeatedly(draw.sample(kills, len(kills)))
    finish(command(cut), cut)

    assert len(lines(whole)) == max_steps
    assert_same_run(cut, whole)
    rolled_back = discarded_lines(cut)
    assert rolled_back, "no kill made a run repeat a step"
    assert set(rolled_back) <= set(lines(whole))
    return Counter(hits)


def test_a_run_whose_ranks_are_killed_ends_as_one_that_nobody_disturbed(shards):
    hits = kill_and_compare(shards, MAIN_ENGINE, TWO_KILLS, SEED)
    assert set(hits) == {Moment.STEP, Moment.SAVE}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_at_random_moments_change_no_bit(shards):
    hits = kill_and_compare(shards, MAIN_ENGINE, THIRTY_KILLS, SEED)
    assert hits.total() >= 30
    assert min(hits[Moment.START], hits[Moment.STEP], hits[Moment.SAVE]) >= 6, hits


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("stage", "precision", "offload"), OTHER_ENGINES)
def test_three_kills_change_no_bit_whatever_stage_and_precision(shards, stage, precision, offload):
    hits = kill_and_compare(shards, engine_overrides(stage, precision, offload=offload), THREE_KILLS, SEED)
    assert set(hits) == {Moment.START, Moment.STEP, Moment.SAVE}


@contextmanager
def signal_to_come(run_dir: Path, number: int, *, after_steps: int, delay: float) -> Iterator[None]:
    """Send this process a signal from another thread, so many logged steps and seconds from now."""
    life, over = Life(run_dir), threading.Event()

    def wait_and_send() -> None:
        while life.steps() < after_steps:
            if over.wait(0.002):
                return
        if not over.wait(delay):
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def preempt_repeatedly(ranks: Ranks, shards: Path, run_dir: Path, overrides: list[str], preemptions: int, seed: int):
    """Run until told to leave, so many times, then to the end.

    Returns per life: who was told, what this rank noticed, its step.
    """
    config = tiny_config(shards, run_dir, *overrides)
    told = []
    for life in range(preemptions):
        draw = random.Random(f"{seed}, {life}")  # the same on every rank
        victim, number = draw.randrange(ranks.world_size), draw.choice([signal.SIGTERM, signal.SIGUSR1])
        stop = StopRequest()
        if ranks.rank == victim:
            with signal_to_come(run_dir, number, after_steps=draw.randrange(3), delay=draw.uniform(0, 0.05)):
                run(config, ranks, stop)
        else:
            run(config, ranks, stop)
        told.append((victim, number.name, stop.reason, list_tags(run_dir / "checkpoints")[-1]))
    run(config, ranks, StopRequest())
    return told


@pytest.mark.parametrize(("preemptions", "last_step"), [(4, 40), pytest.param(20, 100, marks=pytest.mark.slow)])
def test_repeated_preemptions_of_one_run_change_no_bit(worker_group, shards, tmp_path, preemptions, last_step):
    overrides = [f"max_steps={last_step}", *MAIN_ENGINE]
    worker_group(2).run(train_run, shards, tmp_path / "whole", *overrides)
    lives = worker_group(2).run(preempt_repeatedly, shards, tmp_path / "cut", overrides, preemptions, SEED)
    print(f"seed {SEED}", *lives[0], sep="\n")

    for told in zip(*lives, strict=True):
        victim, number, _, tag = told[0]
        assert [reason for _, _, reason, _ in told] == [number if rank == victim else None for rank in range(2)]
        assert tag < tag_of(last_step), "the run was over before it could be preempted"
    assert len({tag for _, _, _, tag in lives[0]}) == preemptions, "every life makes progress"
    assert len(lines(tmp_path / "cut")) == last_step
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert not (tmp_path / "cut" / DISCARDED_FILE).exists(), "who is told to leave loses nothing"
