"""A time budget and exit codes, with the command as a launcher starts it."""

import json

from tests.distributed.runs import TINY, engine_overrides
from tests.integration.ranks import run_ranks
from tests.shards import write_shards

WAIT_SECONDS = 240  # a hang, which ends in TimeoutExpired


def test_a_run_out_of_minutes_saves_and_leaves_with_the_exit_code_asked_for(tmp_path):
    shards, run_dir = write_shards(tmp_path / "shards"), tmp_path / "run"
    three_steps = ["max_steps=3", "lr_schedule.warmup_steps=1"]
    arguments = [f"shards_dir={shards}", f"run_dir={run_dir}", *TINY, *engine_overrides(1, "fp32"), *three_steps]

    def status() -> dict:
        return json.loads((run_dir / "status.json").read_text())

    budget = ["max_minutes=0.01", "stop_exit_code=75"]
    results = run_ranks(2, [*arguments, *budget], WAIT_SECONDS)
    assert [code for code, _ in results] == [75, 75]
    assert "stopped on max_minutes=0.01 after step 1 of 3, saved; the same command goes on from there" in results[0][1]
    assert (status()["state"], status()["step"], status()["checkpoint"]) == ("stopped", 1, "step-00000001")
    assert [code for code, _ in run_ranks(1, [*arguments, "stop_after=2"], WAIT_SECONDS)] == [0], "the default"
    assert (status()["state"], status()["step"]) == ("stopped", 2)
    assert [code for code, _ in run_ranks(1, [*arguments, *budget], WAIT_SECONDS)] == [0], "done, though out of time"
    assert (status()["state"], status()["step"]) == ("done", 3)
