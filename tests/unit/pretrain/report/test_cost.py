from pathlib import Path

import numpy as np
import pytest

from pretrain.report.columns import MetricColumns
from pretrain.report.cost import device_seconds_on_steps, reckon_cost, seconds_left
from pretrain.report.history import History, read_history
from pretrain.track.metrics_file import MetricsLog
from tests.unit.pretrain.report.example_run import STEP_SECONDS, record_of, write_example, write_status


def read(run_dir: Path) -> History:
    return read_history(run_dir, MetricColumns(run_dir))


def test_the_cost_of_a_run_by_hand(tmp_path: Path) -> None:
    """100 s on 4 ranks and 200 s on 2; steps 1 to 30 count on 4 ranks, 31 to 120 on 2, 2 s each; 30 are to come."""
    cost = reckon_cost(read(write_example(tmp_path)))
    assert cost is not None
    assert cost.spent * 3600 == pytest.approx(100 * 4 + 200 * 2)
    assert cost.on_steps * 3600 == pytest.approx(STEP_SECONDS * (30 * 4 + 90 * 2))
    assert cost.to_come * 3600 == pytest.approx(STEP_SECONDS * 30 * 2)
    assert cost.planned == pytest.approx(cost.on_steps + cost.to_come)
    assert cost.expected == pytest.approx(cost.spent + cost.to_come)


def test_lines_belong_to_the_life_that_wrote_them_after_rollbacks_to_ever_older_steps(tmp_path: Path) -> None:
    lives = read(write_example(tmp_path)).lives
    assert [life.first_step for life in lives] == [0, 30]
    # A third life from step 30 on again: the second one's lines are all gone.
    again = [*lives, lives[1]]
    steps, seconds = np.array([20.0, 30.0, 40.0]), np.array([1.0, 1.0, 3.0])
    assert device_seconds_on_steps(steps, seconds, again) == 30 * 4 + 10 * 3 * 2
    assert device_seconds_on_steps(np.array([]), np.array([]), lives) == 0


def test_a_phase_to_come_is_reckoned_at_the_same_tokens_per_second(tmp_path: Path) -> None:
    write_example(tmp_path)
    with MetricsLog(tmp_path) as log:
        log.discard_after(80)
    write_status(tmp_path, "running", 0)
    assert seconds_left(read(tmp_path)) == pytest.approx(20 * STEP_SECONDS + 50 * 2 * STEP_SECONDS)
    (tmp_path / "data.json").unlink()  # lengths unknown: steps count alike
    assert seconds_left(read(tmp_path)) == pytest.approx(70 * STEP_SECONDS)


def test_the_pace_is_that_of_the_present_phase(tmp_path: Path) -> None:
    write_example(tmp_path)
    with MetricsLog(tmp_path) as log:
        log.append(record_of(130, step_seconds=5.0))
        log.append(record_of(140, step_seconds=5.0))
    assert seconds_left(read(tmp_path)) == pytest.approx(10 * (2 * 5 + 2 * 2) / 4)


def test_without_events_or_steps_there_is_no_cost(tmp_path: Path) -> None:
    write_example(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert reckon_cost(read(tmp_path)) is None
    write_example(tmp_path)
    (tmp_path / "events.jsonl").unlink()
    assert reckon_cost(read(tmp_path)) is None
