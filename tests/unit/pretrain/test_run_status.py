"""status.json says what became of the run's latest process."""

import json
from pathlib import Path

import pytest

from pretrain.checkpoint.save import COMPLETE_NAME
from pretrain.distributed import FailureElsewhereError, LostRanksError
from pretrain.run_status import (
    FailureStatus,
    RunStatus,
    Standing,
    describe_ending,
    ending,
    write_status,
)
from pretrain.step_watch import StepWatch

RUNNING = RunStatus(state=Standing.running, step=2, total_steps=9)


def read(run_dir: Path) -> dict:
    return json.loads((run_dir / "status.json").read_text())


def fail(run_dir: Path, error: BaseException, *, is_first: bool = True) -> None:
    watch = StepWatch(rank=0, step=5, timeout_seconds=1)
    with pytest.raises(type(error)), FailureStatus(run_dir, RUNNING, watch, is_first=is_first):
        raise error


def test_the_last_step_is_done_whatever_was_asked_for():
    status = ending(9, total_steps=9, stop_after=9, reasons=["SIGTERM"])
    assert (status.state, status.reason) == (Standing.done, None)
    assert describe_ending(status, Path("R")).startswith("done: 9 steps; next: python -m pretrain.export run_dir=R ")


@pytest.mark.parametrize(
    ("stop_after", "reasons", "reason"),
    [
        (None, [None, "SIGUSR1"], "SIGUSR1"),
        (None, ["max_minutes=3", "SIGTERM"], "max_minutes=3"),
        (7, [None, None], "stop_after=7"),
        (8, [None, "SIGTERM"], "SIGTERM"),
    ],
)
def test_a_stop_names_its_reason_whichever_rank_has_it(stop_after, reasons, reason):
    status = ending(7, total_steps=9, stop_after=stop_after, reasons=reasons)
    assert (status.state, status.step, status.reason) == (Standing.stopped, 7, reason)
    expected = f"stopped on {reason} after step 7 of 9, saved; the same command goes on from there"
    assert describe_ending(status, Path("R")) == expected


def test_the_file_names_the_newest_complete_checkpoint(tmp_path):
    write_status(tmp_path, RUNNING)
    expected = {"state": "running", "step": 2, "total_steps": 9, "reason": None, "checkpoint": None}
    assert read(tmp_path) == expected
    for tag in ("step-00000002", "step-00000004"):
        (tmp_path / "checkpoints" / tag).mkdir(parents=True)
        (tmp_path / "checkpoints" / tag / COMPLETE_NAME).touch()
    (tmp_path / "checkpoints" / "step-00000006").mkdir()
    write_status(tmp_path, RUNNING)
    assert read(tmp_path) == expected | {"checkpoint": "step-00000004"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("lr is not valid"), "lr is not valid"),
        (FailureElsewhereError("disk full"), "disk full"),
        (TypeError("a bug"), "TypeError: a bug"),
        (LostRanksError("step 6: gone"), "LostRanksError: step 6: gone"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
)
def test_an_error_leaves_failed_with_the_last_finished_step(tmp_path, error, reason):
    fail(tmp_path, error)
    status = read(tmp_path)
    assert (status["state"], status["step"], status["total_steps"], status["reason"]) == ("failed", 5, 9, reason)


def test_the_file_begins_with_the_state_and_names_its_reason_as_launch_container_reads_it_as_text(tmp_path):
    write_status(tmp_path, RunStatus(state=Standing.stopped, step=3, total_steps=9, reason="stop_after=3"))
    text = (tmp_path / "status.json").read_text()
    assert text.startswith('{"state": "stopped"')
    assert '"reason": "stop_after=' in text


def test_only_rank_0_writes(tmp_path):
    fail(tmp_path, ValueError("no"), is_first=False)
    assert list(tmp_path.iterdir()) == []


def test_a_status_that_cannot_be_written_does_not_hide_the_error(tmp_path, capsys):
    fail(tmp_path / "gone", TypeError("a bug"))
    assert "status.json is not up to date" in capsys.readouterr().err
