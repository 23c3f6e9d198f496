"""What only the local executor needs; what every executor does is in test_executor.py."""

import time
from pathlib import Path

import pytest

from data_prep.executors.stage import TaskError
from tests.unit.data_prep.example_steps import WriteRank
from tests.unit.data_prep.executors.test_executor import KINDS, run


class FailBesideASlowTask(WriteRank):
    """Rank 0 fails as soon as rank 1 runs; all others mark their start and take a second."""

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        if rank:
            (self.folder / f"{rank}.started").touch()
            time.sleep(1)
        while not (self.folder / "1.started").exists():
            time.sleep(0.01)
        super().run(data, rank, world_size)


def test_after_a_failure_what_runs_finishes_and_nothing_more_starts(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^file a, line 3: bad; mend it"):
        run(tmp_path, FailBesideASlowTask(tmp_path, failing=(0,)), KINDS["local_2"], tasks=8)
    assert [path.name for path in tmp_path.glob("*.started")] == ["1.started"]
    assert [path.name for path in tmp_path.glob("*.out")] == ["1.out"]
