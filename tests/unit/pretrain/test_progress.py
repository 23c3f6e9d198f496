import io
import os
import pty
import termios
from collections.abc import Iterator

import pytest

from pretrain.track.metrics import Record
from pretrain.track.progress import ProgressLines, describe, open_progress

RECORD: Record = {"step": 5, "loss": 6.43219, "learning_rate": 1.25e-4, "tokens_per_second": 12345.6}


class Clock:
    """Seconds that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_describe_shows_what_is_there() -> None:
    assert describe(RECORD) == "loss 6.4322, lr 1.25e-04, 12,346 tokens/s"
    assert describe({"step": 5, "loss": float("nan"), "learning_rate": None}) == "loss nan"
    assert describe({}) == ""


def test_a_log_file_gets_the_first_step_then_a_line_every_thirty_seconds_then_the_last() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLines(start_step=0, max_steps=100, stream=stream, clock=clock)
    for step in range(1, 101):
        clock.now += 1
        progress.update(step, RECORD if step % 10 == 0 else None)
    progress.close()
    shown = stream.getvalue().splitlines()
    assert [line.split(" (")[0] for line in shown] == [f"step {step}/100" for step in (1, 31, 61, 91, 100)]
    assert shown[0] == "step 1/100 (1%) | 01:39 left"
    assert shown[1] == "step 31/100 (31%) | loss 6.4322, lr 1.25e-04, 12,346 tokens/s | 01:09 left"
    assert shown[-1].endswith("00:00 left")


def test_time_left_counts_only_the_steps_of_this_start() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLines(start_step=90, max_steps=100, stream=stream, clock=clock)
    clock.now += 7
    progress.update(91)
    assert stream.getvalue() == "step 91/100 (91%) | 01:03 left\n"


def test_a_run_that_stops_early_shows_where() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ProgressLines(start_step=0, max_steps=100, stream=stream, clock=clock)
    progress.update(1)
    progress.update(2)
    progress.note("stopping after step 2")
    progress.close()
    assert [line.split(" (")[0] for line in stream.getvalue().splitlines()] == [
        "step 1/100",
        "stopping after step 2",
        "step 2/100",
    ]


def test_ranks_but_the_first_show_nothing() -> None:
    stream = io.StringIO()
    progress = open_progress(rank=1, start_step=0, max_steps=2, stream=stream)
    progress.update(1, RECORD)
    progress.note("text")
    progress.close()
    assert stream.getvalue() == ""


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    progress = open_progress(rank=0, start_step=0, max_steps=2, stream=io.StringIO())
    assert isinstance(progress, ProgressLines)


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def test_a_terminal_gets_a_bar(terminal: tuple[int, io.TextIOWrapper]) -> None:
    reader, stream = terminal
    progress = open_progress(rank=0, start_step=2, max_steps=4, stream=stream)
    progress.update(3, RECORD)
    progress.note("saved step-3")
    progress.update(4)
    progress.close()
    stream.flush()
    text = ""
    while "4/4" not in text or not text.endswith("\n"):  # a terminal may hand over a part
        text += os.read(reader, 65536).decode()
    assert "pretrain:  50%" in text
    assert "2/4" in text
    assert "saved step-3" in text
    last = [line for line in text.split("\r") if line.strip()][-1]
    assert "pretrain: 100%" in last
    assert "4/4" in last
    assert "loss 6.4322, lr 1.25e-04, 12,346 tokens/s" in last
