"""What only Ray needs; what every executor does is in test_executor.py."""

from contextlib import suppress
from pathlib import Path

import pytest

from data_prep.executors.stage import TaskError
from tests.unit.data_prep.example_steps import WriteRank, outputs
from tests.unit.data_prep.executors.test_executor import run

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_without_an_address_a_cluster_is_started_here_and_ended(tmp_path: Path) -> None:
    import ray

    for _ in range(3):  # on a busy machine Ray may miss its own limit of 30 s
        with suppress(TaskError):
            run(tmp_path, WriteRank(tmp_path), ["executor.kind=ray", "executor.workers=2"])
            break
    assert outputs(tmp_path, 4) == ["done\n"] * 4
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^cannot reach Ray at 127\.0\.0\.1:9:(.|\n)*Check executor\.ray\.address"):
        run(tmp_path, WriteRank(tmp_path), ["executor.kind=ray", "executor.ray.address=127.0.0.1:9"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("key", "asked", "has"), [("cpus_per_task", 3, "2"), ("mem_gb_per_task", 1e6, r"[\d.]+")])
def test_a_task_that_no_node_can_take_is_refused_by_its_key(
    tmp_path: Path, ray_cluster: str, key: str, asked: float, has: str
) -> None:
    overrides = ["executor.kind=ray", f"executor.ray.address={ray_cluster}", f"executor.ray.{key}={asked}"]
    with pytest.raises(TaskError, match=rf"^executor\.ray\.{key}={asked} is more than any node .* has {has}\n"):
        run(tmp_path, WriteRank(tmp_path), overrides)
