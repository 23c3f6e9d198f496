"""Saves that tests make by hand, what gets in the way of saves, and what is left of a run."""

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch

from pretrain.checkpoint.restore import find_checkpoint, load_full_weights, newest_checkpoint
from pretrain.checkpoint.saver import Saver
from pretrain.checkpoint.snapshot import Snapshot, Staging
from pretrain.config import PretrainConfig
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.phases import RunState
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import TINY, engine_overrides

KEEP_ALL = ["checkpoint.save_every=2", "checkpoint.keep_last=9"]
LIMIT_BYTES = 64_000  # less than a rank's share of the tiny model, more than anything else a tiny run writes


def open_saver(directory: Path, config: PretrainConfig, engine: Engine, ranks: Ranks) -> Saver:
    """Return a saver whose warnings nobody reads."""
    return Saver(directory, config.checkpoint, engine, ranks, run={}, last_step=100, warn=lambda text: None)


def save_now(directory: Path, config: PretrainConfig, engine: Engine, ranks: Ranks, *, step: int) -> None:
    """Save an engine and wait for it."""
    with open_saver(directory, config, engine, ranks) as saver:
        saver.save(RunState(step=step), last=True)


def command(shards: Path, run_dir: Path, *overrides: str) -> list[str]:
    return [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *KEEP_ALL, *engine_overrides(2, "bf16"), *overrides]


def results(run_dir: Path) -> list[tuple]:
    """What a run computed, line by line."""
    keys = ("step", "loss", "mlm_accuracy", "nsp_loss", "grad_norm", "sequence_hash", "tokens_seen")
    return [tuple(record[key] for key in keys) for record in read_metrics(run_dir / "metrics.jsonl")]


def same_weights(first: Path, second: Path) -> bool:
    one, other = load_full_weights(newest_checkpoint(first)), load_full_weights(newest_checkpoint(second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def found_step(ranks: Ranks, directory: Path) -> int | None:
    checkpoint = find_checkpoint(directory, ranks)
    return None if checkpoint is None else checkpoint.state.step


@contextlib.contextmanager
def before_each_save(act: Callable[[int], object]) -> Iterator[None]:
    """Call `act` with the step of every save of this process, once the save before it is over."""
    take = Staging.take

    def act_and_take(staging: Staging, engine: Engine, state: RunState, ranks: Ranks) -> Snapshot:
        act(state.step)
        return take(staging, engine, state, ranks)

    with patch.object(Staging, "take", act_and_take):
        yield


@contextlib.contextmanager
def full_disk(steps: list[int], run_dir: Path) -> Iterator[None]:
    """Let this process write no file beyond LIMIT_BYTES while the saves of `steps` are written: a real EFBIG."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    try:
        with before_each_save(lambda step: limit(LIMIT_BYTES if step in steps else resource.RLIM_INFINITY)):
            yield
    finally:
        limit(resource.RLIM_INFINITY)


@contextlib.contextmanager
def little_space(steps: list[int], run_dir: Path) -> Iterator[None]:
    """Let the file system seem to have 5,000 bytes free when the saves of `steps` look."""
    seen, real = [0], shutil.disk_usage

    def usage(path: Path):
        return real(path)._replace(free=5_000) if seen[-1] in steps else real(path)

    with before_each_save(seen.append), patch("shutil.disk_usage", usage):
        yield


@contextlib.contextmanager
def no_directory(steps: list[int], run_dir: Path) -> Iterator[None]:
    """Take the run directory away while the saves of `steps` are written."""
    away = run_dir.with_name("away")

    def move(step: int) -> None:
        if step in steps:
            run_dir.rename(away)
        elif away.exists():
            away.rename(run_dir)

    with before_each_save(move):
        yield
    move(0)
