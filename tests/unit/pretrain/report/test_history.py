from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pretrain.report.columns import MetricColumns
from pretrain.report.history import History, read_history
from pretrain.report.standing import describe_events, describe_standing
from tests.unit.pretrain.report.example_run import BEGIN, start_again, write_example, write_status


def read(run_dir: Path) -> History:
    return read_history(run_dir, MetricColumns(run_dir))


def test_lives_are_told_from_events_with_kills_and_changes_of_ranks(tmp_path: Path) -> None:
    history = read(write_example(tmp_path))
    told = [(life.first_step, life.last_step, life.world_size, life.ending, life.seconds) for life in history.lives]
    assert told == [(0, 40, 4, "killed", 100), (30, 120, 2, "stopped", 200)]
    assert (history.step, history.total_steps, history.phase, history.checkpoint) == (120, 150, 1, "step-00000120")
    assert history.run_id == "0123456789abcdef"
    assert [text.text.partition(",")[0] for text in describe_events(history.events)] == [
        "starts from scratch on 4 × cpu",
        "alert: step 41 has not finished for 60 s",
        "killed after step 40",
        "step-00000040 is damaged and was set aside",
        "goes on from step-00000030 on 2 (before: 4) × cpu",
        "stopped after step 120 (SIGUSR1)",
    ]


def test_phases_lie_end_to_end_and_hold_what_a_step_reads(tmp_path: Path) -> None:
    phases = read(write_example(tmp_path)).phases
    assert [(phase.name, phase.first_step, phase.last_step, phase.tokens_per_step) for phase in phases] == [
        ("seq128", 0, 100, 1024),
        ("<seq512>", 100, 150, 2048),
    ]


def test_a_life_without_an_end_lasts_until_its_last_sign_of_life(tmp_path: Path) -> None:
    write_example(tmp_path)
    start_again(tmp_path, 120, 8)
    write_status(tmp_path, "running", 120)
    history = read(tmp_path)
    life = history.lives[-1]
    assert (life.ending, life.world_size, life.last_step) == ("running", 8, 120)
    assert history.last_sign is not None
    assert abs((life.end - history.last_sign).total_seconds()) < 0.01


def test_a_run_that_says_it_runs_is_suspect_after_a_long_silence(tmp_path: Path) -> None:
    write_example(tmp_path)
    write_status(tmp_path, "running", 120)
    history = read(tmp_path)
    assert history.last_sign is not None
    soon, late = history.last_sign + timedelta(seconds=150), history.last_sign + timedelta(seconds=250)
    assert describe_standing(history, soon) == "running, last sign of life 2 min 30 s ago"  # 10 lines take 200 s
    assert describe_standing(history, late).startswith("nothing written for 4 min 10 s: it hangs, or was killed")
    write_status(tmp_path, "failed", 121, reason="disk full")
    assert describe_standing(read(tmp_path), late) == "failed: disk full"


def test_a_start_has_longer_to_its_first_line(tmp_path: Path) -> None:
    write_example(tmp_path)
    start_again(tmp_path, 120, 8)
    write_status(tmp_path, "running", 120)
    history = read(tmp_path)
    assert history.last_sign is not None
    soon, late = history.last_sign + timedelta(seconds=550), history.last_sign + timedelta(seconds=650)
    assert describe_standing(history, soon) == "running, last sign of life 9 min 10 s ago"
    assert describe_standing(history, late).startswith("nothing written for 10 min 50 s")


def test_a_run_of_an_older_release_has_no_events_but_all_else(tmp_path: Path) -> None:
    write_example(tmp_path)
    (tmp_path / "events.jsonl").unlink()
    (tmp_path / "run.json").unlink()
    (tmp_path / "status.json").unlink()
    history = read(tmp_path)
    assert describe_standing(history, BEGIN) == "state unknown: there is no status.json"
    assert (history.lives, history.events, history.run_id, history.step) == ([], [], None, 120)


def test_a_clock_that_went_back_makes_no_negative_life(tmp_path: Path) -> None:
    write_example(tmp_path)
    path = tmp_path / "events.jsonl"
    later = (BEGIN + timedelta(seconds=100)).isoformat(timespec="milliseconds")
    before = (BEGIN - timedelta(seconds=100)).isoformat(timespec="milliseconds")
    path.write_text(path.read_text().replace(later, before))
    assert read(tmp_path).lives[0].seconds == 0


def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has none of metrics\.jsonl, config\.yaml, status\.json"):
        read(tmp_path)
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(ValueError, match=r"status\.json cannot be read"):
        read(tmp_path)


def test_a_start_that_has_not_logged_yet_is_a_run(tmp_path: Path) -> None:
    write_status(tmp_path, "running", 0)
    history = read(tmp_path)
    assert (history.step, history.total_steps, history.phase) == (0, 150, 0)
    assert describe_standing(history, datetime.now(UTC)).startswith("running, last sign of life")
