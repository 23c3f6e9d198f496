"""TensorBoard and Weights & Biases behind one `log`. `metrics.jsonl` is written apart from them, and before them."""

from pathlib import Path
from typing import Any, Protocol

from pretrain.config import TrackingConfig, WandbMode
from pretrain.track.metrics import Record
from pretrain.track.metrics_file import last_logged_step
from pretrain.track.run_files import ensure_run_id

TENSORBOARD_DIR = "tensorboard"


class Tracker(Protocol):
    """Something that draws curves."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the numbers of one step."""

    def close(self, *, failed: bool) -> None:
        """Write out what is left."""


class TensorBoardTracker:
    """Event files in `RUN_DIR/tensorboard`. Points beyond `start_step`, of steps that run again, disappear."""

    def __init__(self, run_dir: Path, *, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self._writer: Any = SummaryWriter(str(run_dir / TENSORBOARD_DIR), purge_step=start_step + 1)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write one scalar per key, and flush: a checkpoint may follow, and the steps before it never run again."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the event file."""
        self._writer.close()


class Trackers:
    """Every tracker of a run. Built by `open_trackers`, on rank 0 only."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, record: Record) -> None:
        """Show the numbers of a record that has a `step`. Texts, flags and None are for `metrics.jsonl` only."""
        step = record["step"]
        assert isinstance(step, int)
        values = {
            name: value
            for name, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "step"
        }
        for tracker in self._trackers:
            tracker.log(step, values)

    def close(self, *, failed: bool = False) -> None:
        """Write out what is left; `failed` marks the W&B run as crashed."""
        for tracker in self._trackers:
            tracker.close(failed=failed)


def open_trackers(config: TrackingConfig, *, run_dir: Path, run_config: dict[str, Any], start_step: int) -> Trackers:
    """Return the trackers that `config` asks for, each going on where an earlier start of this run left off.

    `run_config` is the resolved config as plain containers; `start_step` the number of steps already done (0 for a
    new run). Call it before the first new line goes into `metrics.jsonl`: W&B's history can't go back, so steps that
    were logged before a rollback are not shown to it again, and that file knows which those are.
    Raises ValueError when W&B is to be online without a valid key.
    """
    trackers: list[Tracker] = []
    if config.wandb is not WandbMode.disabled:
        from pretrain.track.wandb_tracker import WandbTracker

        trackers.append(
            WandbTracker(
                config,
                run_dir=run_dir,
                run_id=ensure_run_id(run_dir),
                run_config=run_config,
                last_step=last_logged_step(run_dir),
            )
        )
    if config.tensorboard:
        trackers.append(TensorBoardTracker(run_dir, start_step=start_step))
    return Trackers(trackers)
