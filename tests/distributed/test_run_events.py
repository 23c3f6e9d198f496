"""A run's starts and ends are on record with what they ran on, and its report can be drawn from a real run's files."""

import json
from pathlib import Path

from pretrain.__main__ import run
from pretrain.distributed import Ranks
from pretrain.report.__main__ import main as report
from pretrain.stop import StopRequest
from tests.distributed.runs import engine_overrides, tiny_config

SHORT = ["max_steps=3", "lr_schedule.warmup_steps=0", "tracking.ranks_every=0"]


def live(ranks: Ranks, shards: Path, run_dir: Path, reason_to_stop: str | None) -> None:
    stop = StopRequest()
    stop.reason = reason_to_stop
    run(tiny_config(shards, run_dir, *engine_overrides(1, "fp32"), *SHORT), ranks, stop)


def read(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def test_starts_and_ends_are_recorded_and_reported(worker_group, shards, tmp_path, capsys):
    run_dir = tmp_path / "run"
    worker_group(2).run(live, shards, run_dir, "SIGUSR1")
    start, end = read(run_dir)
    assert (end["event"], end["state"], end["step"], end["reason"]) == ("end", "stopped", 1, "SIGUSR1")
    (run_dir / "events.jsonl").write_text(json.dumps(start) + "\n")  # as if it had been killed
    worker_group(1).run(live, shards, run_dir, None)
    worker_group(1).run(live, shards, run_dir, None)  # nothing is left to do: no start
    told = read(run_dir)
    assert [event["event"] for event in told] == ["start", "killed", "start", "end"]
    keys = ("step", "checkpoint", "world_size", "hosts", "precision", "zero_stage", "device", "total_steps")
    assert [tuple(event[key] for key in keys) for event in (told[0], told[2])] == [
        (0, None, 2, 1, "fp32", 1, "cpu", 3),
        (1, "step-00000001", 1, 1, "fp32", 1, "cpu", 3),
    ]
    assert (told[1]["step"], told[3]["state"], told[3]["step"], told[3]["reason"]) == (1, "done", 3, None)
    assert [event["time"] for event in told] == sorted(event["time"] for event in told)
    assert report([str(run_dir)]) == 0
    page = (run_dir / "report.html").read_text()
    assert "goes on from step-00000001 on 1 (before: 2) × cpu" in page
    assert "<b>done</b>" in page
    assert report([str(run_dir), "--watch", "--once"]) == 0
    assert "step 3 of 3 (100.0%)" in capsys.readouterr().out
