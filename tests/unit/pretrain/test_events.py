import json
import logging
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pretrain.track.events import EventKind, append_event, last_sign, read_events, write_start
from pretrain.track.metrics_file import MetricsLog

START = {"step": 0, "world_size": 2}


def kinds(run_dir: Path) -> list[str]:
    return [event.kind.value for event in read_events(run_dir)]


def test_an_event_comes_back_with_its_time_in_utc(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []
    before = datetime.now(UTC)
    append_event(tmp_path, EventKind.end, state="done", step=7, reason=None)
    event = read_events(tmp_path)[0]
    assert before.replace(microsecond=0) <= event.time <= datetime.now(UTC)
    assert (event.kind, event.values) == (EventKind.end, {"state": "done", "step": 7, "reason": None})
    assert json.loads((tmp_path / "events.jsonl").read_text())["time"].endswith("+00:00")


def test_a_start_whose_end_is_missing_was_killed_at_its_last_sign_of_life(tmp_path: Path) -> None:
    write_start(tmp_path, damaged=[], **START)
    with MetricsLog(tmp_path) as log:
        log.append({"step": 10})
        log.append({"step": 20})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 30, "lo')
    an_hour_ago = datetime.now(UTC).timestamp() - 3600
    for name in ("metrics.jsonl", "events.jsonl"):
        os.utime(tmp_path / name, (an_hour_ago, an_hour_ago))
    write_start(tmp_path, damaged=["step-00000015"], step=10, world_size=1)
    assert kinds(tmp_path) == ["start", "killed", "checkpoint_damaged", "start"]
    killed, damaged = read_events(tmp_path)[1:3]
    assert (killed.values, damaged.values) == ({"step": 20}, {"checkpoint": "step-00000015"})
    assert abs(killed.time.timestamp() - an_hour_ago) < 0.002


def test_a_start_that_ended_was_not_killed_and_each_kill_is_told_once(tmp_path: Path) -> None:
    write_start(tmp_path, damaged=[], **START)
    append_event(tmp_path, EventKind.end, state="failed", step=3)
    write_start(tmp_path, damaged=[], **START)
    write_start(tmp_path, damaged=[], **START)
    assert kinds(tmp_path) == ["start", "end", "start", "killed", "start"]
    append_event(tmp_path, EventKind.killed, step=3)  # the next start was killed between its two lines
    write_start(tmp_path, damaged=[], **START)
    assert kinds(tmp_path)[5:] == ["killed", "start"]


def test_a_kill_before_the_first_line_stands_at_the_step_of_its_start(tmp_path: Path) -> None:
    write_start(tmp_path, damaged=[], step=500, world_size=2)
    write_start(tmp_path, damaged=[], step=500, world_size=2)
    assert read_events(tmp_path)[1].values == {"step": 500}


@pytest.mark.parametrize(
    "torn", [b'{"time": "2026-03', b"\0\0\0\0", b"[1]", b'{"time": "2026-03-01", "event": "party"}']
)
def test_a_torn_line_costs_no_other_one(tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture) -> None:
    append_event(tmp_path, EventKind.start, **START)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(torn)
    append_event(tmp_path, EventKind.end, state="done", step=1)
    with caplog.at_level(logging.WARNING):
        assert kinds(tmp_path) == ["start", "end"]
    assert "events.jsonl, line 2: left out" in caplog.text


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from pretrain.track.events import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (10, {resource.RLIM_INFINITY}))\n"
        "append_event(Path(sys.argv[1]), EventKind.start)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"OSError: {tmp_path / 'events.jsonl'} cannot be written" in done.stderr


def test_the_last_sign_of_life_is_the_newest_file(tmp_path: Path) -> None:
    assert last_sign(tmp_path) is None
    append_event(tmp_path, EventKind.start)
    os.utime(tmp_path / "events.jsonl", (1000, 1000))
    assert last_sign(tmp_path) == datetime.fromtimestamp(1000, UTC)
    (tmp_path / "checkpoints").mkdir()
    os.utime(tmp_path / "checkpoints", (2000, 2000))
    assert last_sign(tmp_path) == datetime.fromtimestamp(2000, UTC)
