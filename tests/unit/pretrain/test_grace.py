from pathlib import Path

import pytest

from pretrain.grace import last_lines, require_grace, slowest


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
    path = metrics(
        tmp_path, '{"step": 1, "step_seconds": 4.2}', '{"step": 2, "step_seconds": 1, "save_seconds": 3}', '{"step": 3}'
    )
    with pytest.raises(ValueError, match=r"grace_seconds=10\.0 is not valid: at least 11"):
        require_grace(10.0, path)
    assert "4.2 s and two saves of 3.0 s" in require_grace(11.0, path)


def test_what_is_not_measured_is_said(tmp_path):
    assert "two saves of a time not measured yet" in require_grace(
        5.0, metrics(tmp_path, '{"step": 1, "step_seconds": 4}')
    )
    assert "nothing is measured yet" in require_grace(5.0, tmp_path / "no such file")
