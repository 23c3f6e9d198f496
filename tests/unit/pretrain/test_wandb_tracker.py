"""Real W&B runs, in processes of their own: wandb keeps its settings, its login and its service per process."""

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

from pretrain.track.metrics_file import MetricsLog
from pretrain.track.run_files import ensure_run_id

CONFIG = {"seed": 7, "model": {"hidden_size": 128}}

PROGRAM = """
import json, logging, sys
from pathlib import Path
import psutil
from pretrain.config import TrackingConfig, WandbMode
from pretrain.track import wandb_tracker
from pretrain.track.metrics_file import MetricsLog
from pretrain.track.trackers import open_trackers

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
wandb_tracker.INIT_TIMEOUT_SECONDS = 3
run_dir, mode, start_step, steps, config, kill_after = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
tracking = TrackingConfig(log_every=1, tensorboard=False, wandb=WandbMode(mode), wandb_project="lambert-tests",
                          wandb_name="a run", peak_tflops=None)
try:
    trackers = open_trackers(tracking, run_dir=run_dir, run_config=config, start_step=start_step)
except ValueError as error:
    sys.exit(f"ValueError: {error}")
with MetricsLog(run_dir) as log:
    log.discard_after(start_step)
    for step in steps:
        record = {"step": step, "loss": 10 / step, "nsp_loss": float("nan"), "mfu": None}
        log.append(record)
        trackers.log(record)
        if step == kill_after:
            [core] = psutil.Process().children()
            assert core.name() == "wandb-core"
            core.kill()
trackers.close()
print("trained to the end")
"""


def train(
    run_dir: Path,
    mode: str,
    *,
    start_step: int,
    steps: list[int],
    config: dict[str, Any] = CONFIG,
    kill_after: int | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Log `steps` in a new process that has no W&B settings but `environment`; `kill_after` kills wandb's service."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    home = run_dir.parent / "home"
    home.mkdir(exist_ok=True)
    arguments = [json.dumps(value) for value in (mode, start_step, steps, config, kill_after)]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run_dir), *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env=clean | {"HOME": str(home)} | environment,
    )


def transaction_log(path: Path) -> Iterator[WandbRecord]:
    """Yield the records of a `.wandb` file: LevelDB's log format after a header of 7 bytes, with a plain crc32.

    wandb 0.31 reads it in Go only, to send it; the messages are parsed by wandb's own protobuf classes.
    """
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, message = 7, b""
    while position + 7 <= len(data):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, position)
        chunk = data[position + 7 : position + 7 + length]
        assert zlib.crc32(bytes([kind]) + chunk) == crc
        message += chunk
        position += 7 + length
        if kind in (1, 4):  # full, last
            yield WandbRecord.FromString(message)
            message = b""


def runs(run_dir: Path) -> list[list[WandbRecord]]:
    """Return the records of every start of a run, oldest first."""
    files = sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
    return [list(transaction_log(path)) for path in files]


def history(records: list[WandbRecord]) -> list[dict[str, Any]]:
    """Return the rows of the history, without wandb's own columns except `_step`."""
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            rows.append({key: value for key, value in items.items() if key == "_step" or not key.startswith("_")})
    return rows


def run_messages(records: list[WandbRecord]) -> list[Any]:
    return [record.run for record in records if record.WhichOneof("record_type") == "run"]


def test_an_offline_run_holds_history_and_config(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = train(run_dir, "offline", start_step=0, steps=[10, 20, 30])
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("trained to the end\n", "")
    [records] = runs(run_dir)
    rows = history(records)
    assert [(row["_step"], row["step"], row["loss"]) for row in rows] == [(s, s, 10 / s) for s in (10, 20, 30)]
    assert all(row["nsp_loss"] != row["nsp_loss"] for row in rows)
    assert all("mfu" not in row for row in rows)
    [run, *_] = run_messages(records)
    assert (run.run_id, run.project, run.display_name) == (ensure_run_id(run_dir), "lambert-tests", "a run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert {key: config[key] for key in CONFIG} == CONFIG
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert any(metric.glob_name == "*" and metric.step_metric == "step" for metric in metrics)


def test_a_rollback_continues_the_run_without_a_step_going_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert train(run_dir, "offline", start_step=0, steps=[10, 20, 30, 40]).returncode == 0
    done = train(run_dir, "offline", start_step=20, steps=[30, 40, 50, 60], config=CONFIG | {"seed": 8})
    assert (done.returncode, done.stderr) == (0, "")
    first, second = runs(run_dir)
    assert {run.run_id for records in (first, second) for run in run_messages(records)} == {ensure_run_id(run_dir)}
    assert [row["_step"] for row in history(first)] == [10, 20, 30, 40]
    assert [row["_step"] for row in history(second)] == [50, 60]


def test_online_without_a_key_is_refused_by_name(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "online", start_step=0, steps=[1])
    assert done.returncode == 1
    assert done.stderr.startswith("ValueError: tracking.wandb=online is not possible: no API key was found")
    assert "WANDB_API_KEY" in done.stderr
    assert "tracking.wandb=offline" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_online_with_a_malformed_key_is_refused_by_name(tmp_path: Path) -> None:
    done = train(tmp_path / "run", "online", start_step=0, steps=[1], WANDB_API_KEY="short")
    assert done.returncode == 1
    assert done.stderr.startswith("ValueError: tracking.wandb=online is not possible: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_unreachable_server_makes_the_run_offline_with_one_warning(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    key = "0123456789" * 4
    done = train(run_dir, "online", start_step=0, steps=[1, 2], WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (0, "trained to the end\n"), done.stderr
    assert done.stderr.startswith("WARNING W&B cannot be reached")
    assert "wandb sync" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [row["_step"] for row in history(runs(run_dir)[-1])] == [1, 2]


def test_a_dead_wandb_service_costs_one_warning_and_no_step(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = train(run_dir, "offline", start_step=0, steps=[1, 2, 3, 4], kill_after=2)
    assert (done.returncode, done.stdout) == (0, "trained to the end\n"), done.stderr
    assert done.stderr.startswith("WARNING W&B stopped working at step")
    assert len(done.stderr.splitlines()) == 1
    with MetricsLog(run_dir) as log:
        assert log.last_step == 4
