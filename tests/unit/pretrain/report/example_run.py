"""A run directory as a training leaves it: two phases, killed with a rollback, gone on with fewer ranks, stopped."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pretrain.track.events import EventKind, append_event, write_start
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import MetricsLog

BEGIN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
STEP_SECONDS = 2.0
PHASES = [
    {"name": "seq128", "max_steps": 100, "data": {"global_batch_size": 8}},
    {"name": "<seq512>", "max_steps": 50, "data": {"global_batch_size": 4}},
]
ENGINE = {"hosts": 1, "device": "cpu", "precision": "bf16", "zero_stage": 1, "git": None, "total_steps": 150}


def record_of(step: int, **more: float | bool) -> Record:
    """Return a plausible line of metrics."""
    return {
        "step": step,
        "phase": int(step > 100),
        "loss": 9.0 * math.exp(-step / 80),
        "mlm_loss": 8.0 * math.exp(-step / 80),
        "mlm_accuracy": 1 - math.exp(-step / 80),
        "learning_rate": 1e-3 * (1 - step / 150),
        "grad_norm": 1.0 + 1 / step,
        "tokens_per_second": 1000.0,
        "step_seconds": STEP_SECONDS,
        "tokens_seen": 2000 * step,
        "skipped_steps": 0,
        "trust_ratio_median": 0.5,
        "trust_ratio/layers.2": 0.4,
        "trust_ratio/layers.10": 0.8,
        **more,
    }


def write_example(run_dir: Path) -> Path:
    """Write the run: it stands at step 120 of 150 with 2 ranks; 40 steps were run on 4, of which 10 ran again."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(json.dumps({"phases": PHASES, "tracking": {"log_every": 10}}))
    data = [{"data_prep": {"sequence": {"max_seq_length": length}}} for length in (128, 512)]
    (run_dir / "data.json").write_text(json.dumps(data))
    (run_dir / "run.json").write_text('{"run_id": "0123456789abcdef"}')
    write_lives(run_dir)
    with MetricsLog(run_dir) as log:
        for step in range(10, 121, 10):
            more: dict[str, float | bool] = {"resumed": True} if step == 40 else {}
            if step % 50 == 0:
                more |= {"held_out_mlm_loss": 5.0 - step / 50, "held_out_unigram_entropy": 6.2}
            log.append(record_of(step, **more))
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    (run_dir / "checkpoints" / "latest").write_text("step-00000120\n")
    write_status(run_dir, "stopped", 120, reason="SIGUSR1")
    return run_dir


def write_lives(run_dir: Path) -> None:
    """Write the events: 0 to 40 on 4 ranks, killed; then from step 30 on 2 ranks to step 120."""
    start = {"step": 0, "checkpoint": None, "world_size": 4, **ENGINE}
    append_event(run_dir, EventKind.start, at=BEGIN, **start)
    stalled = {"title": "stalled", "text": "step 41 has not finished for 60 s"}
    append_event(run_dir, EventKind.alert, at=BEGIN + timedelta(seconds=99), **stalled)
    append_event(run_dir, EventKind.killed, at=BEGIN + timedelta(seconds=100), step=40)
    append_event(run_dir, EventKind.checkpoint_damaged, at=BEGIN + timedelta(seconds=500), checkpoint="step-00000040")
    again = start | {"step": 30, "checkpoint": "step-00000030", "world_size": 2}
    append_event(run_dir, EventKind.start, at=BEGIN + timedelta(seconds=500), **again)
    ended = {"state": "stopped", "step": 120, "reason": "SIGUSR1"}
    append_event(run_dir, EventKind.end, at=BEGIN + timedelta(seconds=700), **ended)


def write_status(run_dir: Path, state: str, step: int, reason: str | None = None) -> None:
    """Write status.json."""
    content = {"state": state, "step": step, "total_steps": 150, "reason": reason, "checkpoint": None}
    (run_dir / "status.json").write_text(json.dumps(content))


def start_again(run_dir: Path, step: int, world_size: int) -> None:
    """Add a start to the events, now."""
    write_start(run_dir, damaged=[], step=step, checkpoint=f"step-{step:08d}", world_size=world_size, **ENGINE)
