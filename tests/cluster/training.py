"""The training that every way in must bring to the same end: its command, its processes, and what its lines must be."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.commands import wait_for
from tests.distributed.runs import TINY, engine_overrides, lines

STEPS = 100
COLLECTIVE_TIMEOUT_SECONDS = 30  # the imports of one rank may take so much longer than another's
# What another number of ranks must repeat; sums in another order change the rest.
BY_SEQUENCE = ("step", "learning_rate", "tokens_seen", "sequences_seen", "sequence_hash", "skipped_steps")
HANG_SECONDS = 300  # on a busy machine


def command(shards: Path, run_dir: Path, *overrides: str) -> list[str]:
    """Return the arguments of the trainer."""
    own = [f"max_steps={STEPS}", "checkpoint.save_every=20"]
    own += [f"engine.collective_timeout_seconds={COLLECTIVE_TIMEOUT_SECONDS}"]
    return [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *engine_overrides(1, "fp32"), *own, *overrides]


def ranks_of(run_dir: Path) -> list[psutil.Process]:
    """Return the processes on this machine, whatever started them, that train into a run directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "pretrain" in words[2:4] and f"run_dir={run_dir}" in words:
                found.append(process)
    return found


def status(run_dir: Path) -> dict[str, Any]:
    """Return what a run says of itself."""
    told: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    return told


@contextmanager
def held_until_told(run_dir: Path) -> Iterator[None]:
    """Hold a run's ranks still until a signal has come to each: without, they may reach their last step before it."""
    ranks = ranks_of(run_dir)
    for rank in ranks:
        rank.suspend()
    try:
        yield
        wait_for(lambda: all(map(_is_told, ranks)), HANG_SECONDS, lambda: f"no signal came to {ranks}", pause=0.05)
    finally:
        for rank in ranks:
            with suppress(psutil.NoSuchProcess):
                rank.resume()


def _is_told(rank: psutil.Process) -> bool:
    """Return whether a signal waits for a process that was held still; one that goes on or has ended got one."""
    with suppress(psutil.NoSuchProcess, OSError):
        pending = Path(f"/proc/{rank.pid}/status").read_text().partition("ShdPnd:")[2].split()[0]
        return rank.status() != psutil.STATUS_STOPPED or int(pending, 16) != 0
    return True


def assert_same_sequences(run_dir: Path, whole: Path) -> None:
    """A run whose number of ranks has changed read the same sequences; its losses differ by summation order only."""
    assert lines(run_dir, BY_SEQUENCE) == lines(whole, BY_SEQUENCE)
    losses, expected = ([line[0] for line in lines(folder, ("loss",))] for folder in (run_dir, whole))
    assert losses == pytest.approx(expected, rel=1e-2)
