"""Shards and an undisturbed training on two ranks, which the runs of every launcher are held against."""

from pathlib import Path

import pytest

from tests.cluster.hosts import hosts  # noqa: F401  # a fixture
from tests.cluster.slurm import slurm_cluster  # noqa: F401  # a fixture
from tests.cluster.training import HANG_SECONDS, STEPS, command
from tests.distributed.runs import lines
from tests.integration.ranks import run_ranks
from tests.shards import write_shards


@pytest.fixture(scope="package")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="package")
def whole(shards: Path) -> Path:
    """The run directory of a training that nobody disturbed."""
    run_dir = shards.parent / "whole"
    assert [code for code, _ in run_ranks(2, command(shards, run_dir), HANG_SECONDS)] == [0, 0]
    assert len(lines(run_dir)) == STEPS
    return run_dir
