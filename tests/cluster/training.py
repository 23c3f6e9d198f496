"""The training that every way in must bring to the same end: its command, and how its lines are held against others."""

from pathlib import Path

import pytest

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


def assert_same_sequences(run_dir: Path, whole: Path) -> None:
    """A run whose number of ranks has changed read the same sequences; its losses differ by summation order only."""
    assert lines(run_dir, BY_SEQUENCE) == lines(whole, BY_SEQUENCE)
    losses, expected = ([line[0] for line in lines(folder, ("loss",))] for folder in (run_dir, whole))
    assert losses == pytest.approx(expected, rel=1e-2)
