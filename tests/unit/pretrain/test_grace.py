from pathlib import Path

import pytest

from pretrain.grace import last_lines, require_grace, slowest
from pretrain.track.events import EventKind, append_event


def metrics(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_only_the_last_lines_count_and_torn_ones_are_passed_over(tmp_path):
    old = '{"step": 1, "step_seconds": 99}'
    new = [f'{{"step": {step}, "step_seconds": {step / 1000}}}' for step in range(2, 101)]
    records = last_lines(metrics(tmp_path, old, *new, '{"step": 1'))
    assert len(records) == 99
    assert slowest(records, "step_seconds") == 0.1
    assert slowest(records, "save_seconds") is None


def test_the_slowest_step_and_save_decide_wherever_they_were_logged(tmp_path):
    metrics(
        tmp_path, '{"step": 1, "step_seconds": 4.2}', '{"step": 2, "step_seconds": 1, "save_seconds": 3}', '{"step": 3}'
    )
    with pytest.raises(ValueError, match=r"grace_seconds=10\.0 is not valid: at least 11"):
        require_grace(10.0, tmp_path, world_size=2, num_streams=8)
    assert "4.2 s and two saves of 3.0 s" in require_grace(11.0, tmp_path, world_size=2, num_streams=8)


def test_what_is_not_measured_is_said(tmp_path):
    assert "nothing is measured yet" in require_grace(5.0, tmp_path, world_size=2, num_streams=8)
    metrics(tmp_path, '{"step": 1, "step_seconds": 4}')
    assert "two saves of a time not measured yet" in require_grace(5.0, tmp_path, world_size=2, num_streams=8)


def test_fewer_ranks_than_those_that_were_measured_are_reckoned_to_take_longer(tmp_path):
    lines = ('{"step": 10, "step_seconds": 3.0}', '{"step": 12, "step_seconds": 1.0, "save_seconds": 5.0}')
    metrics(tmp_path, *lines)
    for step, world_size in ((0, 2), (20, 1), (10, 4)):  # the last one went on from before the one before it
        append_event(tmp_path, EventKind.start, step=step, world_size=world_size)

    def told(world_size: int) -> str:
        return require_grace(99.0, tmp_path, world_size=world_size, num_streams=6)

    assert "a step of 3.0 s and two saves of 5.0 s on 4 ranks" in told(4), "what more ranks gain is not counted on"
    assert "a step of 3.0 s and two saves of 10.0 s on 2 ranks" in told(2), "3 of 6 streams a rank, 2 before"
    assert "a step of 6.0 s and two saves of 20.0 s on 1 ranks" in told(1)
