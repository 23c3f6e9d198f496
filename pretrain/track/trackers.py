"""TensorBoard and Weights & Biases behind one `log`. `metrics.jsonl` is written apart from them, and before them."""

from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from pretrain.track.metrics import Record
from pretrain.track.metrics_file import logged_steps
from pretrain.track.run_files import ensure_run_id
from pretrain.tracking_config import TrackingConfig, WandbMode

TENSORBOARD_DIR = "tensorboard"


class Tracker(Protocol):
    """Something that draws curves."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the numbers of one step."""

    def alert(self, title: str, text: str) -> None:
        """Show that something is wrong. Any thread may call it."""

    def checkpoint(self, tag: Path) -> None:
        """Take note of a complete checkpoint. Any thread may call it."""

    def close(self, *, failed: bool) -> None:
        """Write out what is left."""


class TensorBoardTracker:
    """Event files in `RUN_DIR/tensorboard`. Points beyond `start_step`, of steps that run again, disappear."""

    def __init__(self, run_dir: Path, *, run_config: dict[str, Any], start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self._writer: Any = SummaryWriter(str(run_dir / TENSORBOARD_DIR), purge_step=start_step + 1)
        self._step = start_step
        text = OmegaConf.to_yaml(OmegaConf.create(run_config))
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()), start_step)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write one scalar per key, and flush: a checkpoint may follow, and the steps before it never run again."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._step = step
        self._writer.flush()

    def alert(self, title: str, text: str) -> None:
        """Write a text, at the last step that was logged."""
        self._writer.add_text("alerts", f"**{title}**: {text}", self._step)

    def checkpoint(self, tag: Path) -> None:
        """Show nothing: TensorBoard has no place for files."""

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

    def alert(self, title: str, text: str) -> None:
        """Show that something is wrong. Any thread may call it."""
        for tracker in self._trackers:
            tracker.alert(title, text)

    def checkpoint(self, tag: Path) -> None:
        """Take note of a complete checkpoint, `checkpoints/step-…`. Any thread may call it."""
        for tracker in self._trackers:
            tracker.checkpoint(tag)

    def close(self, *, failed: bool = False) -> None:
        """Write out what is left; `failed` marks the W&B run as crashed."""
        for tracker in self._trackers:
            tracker.close(failed=failed)


def require_ready(config: TrackingConfig) -> None:
    """Raise ValueError when a tracker lacks what it needs: W&B, when it is to be online, a key. Nothing is sent."""
    if config.wandb is WandbMode.online:
        from pretrain.track.wandb_start import require_key

        require_key()


def open_trackers(config: TrackingConfig, *, run_dir: Path, run_config: dict[str, Any], start_step: int) -> Trackers:
    """Return the trackers that `config` asks for, each going on where an earlier start of this run left off.

    `run_config`, plain containers, is shown as it is; `start_step` is the number of steps already done (0 for a
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
                logged=logged_steps(run_dir, start_step=start_step),
            )
        )
    if config.tensorboard:
        trackers.append(TensorBoardTracker(run_dir, run_config=run_config, start_step=start_step))
    return Trackers(trackers)
