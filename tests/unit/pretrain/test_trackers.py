import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.config import TrackingConfig, WandbMode
from pretrain.track.metrics import Record
from pretrain.track.trackers import open_trackers

TENSORBOARD_ONLY = TrackingConfig(
    log_every=10,
    tensorboard=True,
    wandb=WandbMode.disabled,
    wandb_project="lambert",
    wandb_name=None,
    peak_tflops=None,
)


def track(run_dir: Path, records: list[Record], *, start_step: int) -> None:
    trackers = open_trackers(TENSORBOARD_ONLY, run_dir=run_dir, run_config={}, start_step=start_step)
    for record in records:
        trackers.log(record)
    trackers.close()


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_numbers_of_a_record_only(tmp_path: Path) -> None:
    record: Record = {"step": 10, "loss": 2.5, "tokens_seen": 7, "mfu": None, "resumed": True, "data_hash": "ab"}
    track(tmp_path, [record], start_step=0)
    assert scalars(tmp_path) == {"loss": [(10, 2.5)], "tokens_seen": [(10, 7.0)]}


def test_tensorboard_shows_each_step_once_after_a_rollback(tmp_path: Path) -> None:
    track(tmp_path, [{"step": step, "loss": 1.0} for step in (10, 20, 30, 40)], start_step=0)
    track(tmp_path, [{"step": step, "loss": 2.0} for step in (30, 40, 50)], start_step=20)
    assert scalars(tmp_path) == {"loss": [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0), (50, 2.0)]}


def test_tensorboard_forgets_a_start_that_never_reached_a_checkpoint(tmp_path: Path) -> None:
    track(tmp_path, [{"step": step, "loss": 1.0} for step in (1, 2, 3)], start_step=0)
    track(tmp_path, [{"step": 1, "loss": 2.0}], start_step=0)
    assert scalars(tmp_path) == {"loss": [(1, 2.0)]}


def test_tensorboard_has_what_was_logged_before_it_is_closed(tmp_path: Path) -> None:
    trackers = open_trackers(TENSORBOARD_ONLY, run_dir=tmp_path, run_config={}, start_step=0)
    trackers.log({"step": 1, "loss": math.inf})
    assert scalars(tmp_path) == {"loss": [(1, math.inf)]}
    trackers.close()


def test_nothing_is_written_when_nothing_is_asked_for(tmp_path: Path) -> None:
    config = TrackingConfig(
        log_every=1, tensorboard=False, wandb=WandbMode.disabled, wandb_project="", wandb_name=None, peak_tflops=None
    )
    trackers = open_trackers(config, run_dir=tmp_path, run_config={}, start_step=0)
    trackers.log({"step": 1, "loss": 1.0})
    trackers.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [None, "1", 1.0])
def test_a_record_has_a_whole_step(tmp_path: Path, step: float | str | None) -> None:
    trackers = open_trackers(TENSORBOARD_ONLY, run_dir=tmp_path, run_config={}, start_step=0)
    with pytest.raises(AssertionError):
        trackers.log({"step": step, "loss": 1.0})
    trackers.close()
