"""A run leaves word of how it ended: the same return value on every rank, and status.json for those who see none."""

import json
from pathlib import Path

import pytest

from pretrain.__main__ import run
from pretrain.distributed import Ranks
from pretrain.stop import StopRequest
from tests.distributed.runs import engine_overrides, tiny_config


def run_and_read(ranks: Ranks, shards: Path, run_dir: Path, reason_on_last_rank: str | None, *overrides: str):
    """Return whether the run is done and, from rank 0, the status while it ran (at the first step) and afterwards."""
    stop = StopRequest()
    if ranks.rank == ranks.world_size - 1:
        stop.reason = reason_on_last_rank
    config = tiny_config(shards, run_dir, *engine_overrides(1, "fp32"), *overrides)
    is_done = run(config, ranks, stop)
    return is_done, json.loads((run_dir / "status.json").read_text()) if ranks.is_first else None


def expected(state: str, step: int, reason: str | None) -> dict:
    tag = f"step-{step:08d}"
    return {"state": state, "step": step, "total_steps": 20, "reason": reason, "checkpoint": tag}


def test_stops_and_the_end_are_told_apart_and_a_stop_names_its_reason(worker_group, shards, tmp_path):
    lives = [
        ("SIGUSR1", [], False, expected("stopped", 1, "SIGUSR1")),
        (None, ["max_minutes=1e-6"], False, expected("stopped", 2, "max_minutes=1e-06")),
        (None, ["stop_after=4"], False, expected("stopped", 4, "stop_after=4")),
        # Nothing is left to do for this command: whoever starts stopped ones anew must not do so for ever.
        (None, ["stop_after=3"], True, expected("stopped", 4, "stop_after=3")),
        (None, [], True, expected("done", 20, None)),
        ("SIGTERM", [], True, expected("done", 20, None)),
    ]
    for reason, overrides, is_done, status in lives:
        results = worker_group(2).run(run_and_read, shards, tmp_path / "run", reason, *overrides)
        assert [result[0] for result in results] == [is_done] * 2, overrides
        assert results[0][1] == status


def fail_and_read(ranks: Ranks, shards: Path, run_dir: Path):
    diverging = ["optimizer.learning_rate=1e30", "max_bad_steps=1"]
    config = tiny_config(shards, run_dir, *engine_overrides(1, "fp32"), *diverging)
    with pytest.raises(ValueError, match=r"finite|diverged"):
        run(config, ranks, StopRequest())
    return json.loads((run_dir / "status.json").read_text())


def test_a_run_that_fails_says_so_with_its_last_step(worker_group, shards, tmp_path):
    status = worker_group(2).run(fail_and_read, shards, tmp_path / "run")[0]
    assert (status["state"], status["total_steps"], status["checkpoint"]) == ("failed", 20, None)
    assert status["step"] >= 1
    assert "finite" in status["reason"] or "diverged" in status["reason"]


def refuse_and_read(ranks: Ranks, shards: Path, run_dir: Path):
    with pytest.raises(ValueError, match="seed was 0, now 5"):
        run(tiny_config(shards, run_dir, *engine_overrides(1, "fp32"), "seed=5"), ranks, StopRequest())
    return (run_dir / "status.json").read_bytes()


def test_a_command_that_is_refused_leaves_the_status_of_the_run_alone(worker_group, shards, tmp_path):
    worker_group(2).run(run_and_read, shards, tmp_path / "run", "SIGUSR1")
    before = (tmp_path / "run" / "status.json").read_bytes()
    assert worker_group(2).run(refuse_and_read, shards, tmp_path / "run") == [before] * 2
