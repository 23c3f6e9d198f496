import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.track.metrics import Record
from pretrain.track.trackers import open_trackers
from pretrain.tracking_config import Artifacts, TrackingConfig, WandbMode


def tracking(**changes: Any) -> TrackingConfig:
    values: dict[str, Any] = {
        "log_every": 10,
        "ranks_every": 100,
        "tensorboard": True,
        "wandb": WandbMode.disabled,
        "wandb_project": "lambert",
        "wandb_name": None,
        "rewind": False,
        "artifacts": Artifacts.none,
        "peak_tflops": None,
    }
    return TrackingConfig(**(values | changes))


TENSORBOARD_ONLY = tracking()


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
    trackers = open_trackers(tracking(tensorboard=False), run_dir=tmp_path, run_config={}, start_step=0)
    trackers.log({"step": 1, "loss": 1.0})
    trackers.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [None, "1", 1.0])
def test_a_record_has_a_whole_step(tmp_path: Path, step: float | str | None) -> None:
    trackers = open_trackers(TENSORBOARD_ONLY, run_dir=tmp_path, run_config={}, start_step=0)
    with pytest.raises(AssertionError):
        trackers.log({"step": step, "loss": 1.0})
    trackers.close()


def texts(run_dir: Path) -> dict[str, list[tuple[int, str]]]:
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return {
        tag.removesuffix("/text_summary"): [
            (event.step, event.tensor_proto.string_val[0].decode()) for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_shows_the_config_and_alerts_as_texts(tmp_path: Path) -> None:
    config = {"seed": 7, "model": {"hidden_size": 128}}
    trackers = open_trackers(TENSORBOARD_ONLY, run_dir=tmp_path, run_config=config, start_step=20)
    trackers.log({"step": 30, "loss": 1.0})
    trackers.alert("stalled", "step 31 has not finished for 90 s")
    trackers.checkpoint(tmp_path / "checkpoints" / "step-00000030")
    trackers.close()
    assert texts(tmp_path) == {
        "config": [(20, "    seed: 7\n    model:\n      hidden_size: 128\n")],
        "alerts": [(30, "**stalled**: step 31 has not finished for 90 s")],
    }


@pytest.mark.parametrize("mode", [WandbMode.offline, WandbMode.disabled])
def test_rewinding_needs_the_server(mode: WandbMode) -> None:
    with pytest.raises(ValueError, match=rf"tracking\.rewind=True is not valid: .*tracking\.wandb={mode}"):
        tracking(wandb=mode, rewind=True)
    assert tracking(wandb=WandbMode.online, rewind=True).rewind


def test_artifacts_need_wandb() -> None:
    with pytest.raises(ValueError, match=r"tracking\.artifacts='checkpoints' is not valid"):
        tracking(artifacts=Artifacts.checkpoints)
