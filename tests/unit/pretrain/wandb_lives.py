"""W&B runs in processes of their own (wandb keeps its settings, login and service per process), and their files."""

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

CONFIG = {"seed": 7, "model": {"hidden_size": 128}}

PROGRAM = """
import json, logging, os, signal, sys, time
from pathlib import Path
import psutil
from pretrain.track import wandb_start, wandb_tracker
from pretrain.track.metrics_file import MetricsLog
from pretrain.track.trackers import open_trackers
from pretrain.tracking_config import Artifacts, TrackingConfig, WandbMode

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
run_dir, life = Path(sys.argv[1]), json.loads(sys.argv[2])
wandb_start.INIT_TIMEOUT_SECONDS = max(5, life["patience"])  # a slow machine starts an offline run in it
wandb_start.FINISH_TIMEOUT_SECONDS = life["patience"]
wandb_tracker.FINISH_TIMEOUT_SECONDS = wandb_tracker.LEAVE_SECONDS = life["patience"]
wandb_start.FLUSH_SECONDS = 0.2
tracking = TrackingConfig(
    log_every=1, ranks_every=0, tensorboard=False, wandb=WandbMode(life["mode"]), wandb_project="lambert-tests",
    wandb_name="a run", rewind=life.get("rewind", False), artifacts=Artifacts(life.get("artifacts", "none")),
    peak_tflops=None,
)
try:
    trackers = open_trackers(tracking, run_dir=run_dir, run_config=life["config"], start_step=life["start_step"])
except ValueError as error:
    sys.exit(f"ValueError: {error}")
with MetricsLog(run_dir) as log:
    log.discard_after(life["start_step"])
    for step in life["steps"]:
        record = {"step": step, "loss": life.get("loss", 10) / step, "nsp_loss": float("nan"), "mfu": None}
        log.append(record)
        trackers.log(record)
        happens = life.get("after", {}).get(str(step))
        if happens == "the service dies":
            [core] = psutil.Process().children()
            assert core.name() == "wandb-core"
            core.kill()
        elif happens == "the service freezes":
            [core] = psutil.Process().children()
            core.suspend()
        elif happens == "kill -9":
            time.sleep(10 * wandb_start.FLUSH_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        elif happens == "pause":
            print("paused", flush=True)
            sys.stdin.readline()
        elif happens == "alert":
            trackers.alert("stalled", "step 3 has not finished")
        elif happens == "checkpoint":
            trackers.checkpoint(run_dir / "checkpoints" / f"step-{step:08d}")
trackers.close()
print("trained to the end")
"""


def start(run_dir: Path, mode: str, life: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Live a life of a run in a new process that has no W&B settings but those of `environment`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    home = run_dir.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROGRAM,
            str(run_dir),
            json.dumps({"mode": mode, "config": CONFIG, "patience": 60} | life),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean | {"HOME": str(home)} | environment,
    )


def finish(process: subprocess.Popen[str], typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a life, to which a line that is `typed` goes; a hang ends in TimeoutExpired."""
    try:
        stdout, stderr = process.communicate(typed, timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def train(run_dir: Path, mode: str, *, start_step: int, steps: list[int], **more: Any) -> Any:
    """Log `steps` in a new process; `after` says what happens after some, `environment` what wandb finds there."""
    environment = more.pop("environment", {})
    return finish(start(run_dir, mode, {"start_step": start_step, "steps": steps, **more}, environment))


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
    files = sorted(run_dir.glob("wandb/*run-*-*/run-*.wandb"), key=lambda path: path.stat().st_mtime)
    return [list(transaction_log(path)) for path in files]


def history(records: list[WandbRecord]) -> list[dict[str, Any]]:
    """Return the rows of the history, without wandb's own columns except `_step`."""
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            rows.append({key: value for key, value in items.items() if key == "_step" or not key.startswith("_")})
    return rows


def of_kind(records: list[WandbRecord], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]
