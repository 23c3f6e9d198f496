import math
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pretrain.report.__main__ import main
from pretrain.report.columns import MetricColumns
from pretrain.report.history import read_history
from pretrain.report.watch import BARS, CURVES, draw_frame, sparkline
from pretrain.track.metrics_file import MetricsLog
from tests.unit.pretrain.report.example_run import record_of, write_example, write_status


def frame(run_dir: Path, width: int = 100, height: int | None = None) -> list[str]:
    history = read_history(run_dir, MetricColumns(run_dir))
    assert history.last_sign is not None
    return draw_frame(history, now=history.last_sign + timedelta(seconds=4), width=width, height=height)


def test_a_frame_tells_how_far_and_how_well(tmp_path: Path) -> None:
    write_example(tmp_path)
    write_status(tmp_path, "running", 30)
    lines = frame(tmp_path)
    assert lines[:2] == [str(tmp_path), "running, last sign of life 4 s ago"]
    assert lines[2].startswith("step 120 of 150 (80.0%), 1 min 00 s left, steps only  [")
    assert lines[3].startswith("phase 2 of 2 (<seq512>), on 2 × cpu on 1 host, bf16, ZeRO stage 1")
    assert lines[4] == "newest checkpoint: step-00000120; 0.22 device-hours of about 0.26"
    loss = next(line for line in lines if line.startswith("masked-token loss"))
    assert loss.split()[:3] == ["masked-token", "loss", "1.785"]
    assert loss.endswith("▁")
    assert lines[-1] == "03-01 12:11:40  stopped after step 120 (SIGUSR1)"


@pytest.mark.parametrize("width", [20, 60, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    assert max(map(len, frame(write_example(tmp_path), width))) <= width


def test_a_terminal_of_80_by_24_shows_the_newest_events_whatever_else_there_is(tmp_path: Path) -> None:
    write_example(tmp_path)
    everything = dict.fromkeys(metric for _, metric in CURVES) | {"step": 130}
    with MetricsLog(tmp_path) as log:
        log.append({name: value or 1.0 for name, value in everything.items()})
    whole, small, tiny = (frame(tmp_path, 80, height) for height in (None, 23, 12))
    assert len(whole) > len(small) == 23
    assert [label for label, _ in CURVES if not any(line.startswith(label) for line in small)] == []
    assert small[-4:] == [line[:80] for line in whole[-4:]]
    assert len(tiny) == 12
    assert tiny[-3:] == small[-3:]
    assert tiny[6].startswith(CURVES[0][0])


def test_an_error_of_several_lines_takes_one_and_no_escape_reaches_the_terminal(tmp_path: Path) -> None:
    write_example(tmp_path)
    write_status(tmp_path, "failed", 120, reason="CUDA error: out of memory\nFor debugging consider \x1b[31mred")
    assert frame(tmp_path)[1] == "failed: CUDA error: out of memory For debugging consider  [31mred"


def test_a_run_without_a_line_has_a_frame(tmp_path: Path) -> None:
    write_status(tmp_path, "running", 0)
    assert "no step is logged yet" in frame(tmp_path)


def test_a_sparkline_goes_from_the_least_to_the_greatest_value() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == BARS
    assert sparkline([5, math.nan, 1, math.inf], 8) == "█▁"
    assert sparkline(range(1000), 10)[0] + sparkline(range(1000), 10)[-1] == "▁█"
    assert sparkline([62.1] * 1000, 7) == "▁" * 7  # whose means differ in the last bit
    assert (sparkline([3, 3], 5), sparkline([], 5), sparkline([1, 2], 0)) == ("▁▁", "", "")


def test_once_prints_one_frame_anywhere_and_plain_bars_where_text_is_ascii(tmp_path: Path) -> None:
    write_example(tmp_path)
    command = [sys.executable, "-m", "pretrain.report", str(tmp_path), "--watch", "--once"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:replace", "COLUMNS": "90"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "step 120 of 150" in done.stdout
    assert "tokens/s" in done.stdout
    assert "\x1b" not in done.stdout
    assert "#" in next(line for line in done.stdout.splitlines() if line.startswith("accuracy"))


def test_a_live_view_follows_the_run_until_interrupted(tmp_path: Path) -> None:
    write_example(tmp_path)
    write_status(tmp_path, "running", 120)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pretrain.report", str(tmp_path), "--watch", "--every", "0.05"]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    try:
        shown = read_until(ours, "step 120 of 150")
        with MetricsLog(tmp_path) as log:
            log.append(record_of(130))
        shown += read_until(ours, "step 130 of 150")
        process.send_signal(signal.SIGINT)
        shown += read_until(ours, "\x1b[?1049l")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.startswith("\x1b[?1049h")
    assert "Traceback" not in shown


def read_until(terminal: int, words: str) -> str:
    shown, deadline = "", time.monotonic() + 60
    while words not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 65536).decode()
    return shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--once"], "--once belongs to --watch"),
        (["--watch"], "--watch needs a terminal; --watch --once"),
        (["--watch", "--once", "--every", "0"], "--every=0: seconds, above 0"),
        (["--cost-per-hour", "-1"], "--cost-per-hour=-1: zero or more"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *arguments])
    assert message in capsys.readouterr().err
