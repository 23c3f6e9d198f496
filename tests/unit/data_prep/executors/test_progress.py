import io
import threading
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from data_prep.executors import progress
from data_prep.executors.progress import PROGRESS_FOLDER, TaskProgress, finished_tasks, read_notes, show_progress


def test_a_note_is_read_back_and_not_rewritten_at_every_update(tmp_path: Path) -> None:
    task = TaskProgress(tmp_path, 3)
    for done in range(10, 20):
        task.update(done)
    assert read_notes(tmp_path) == {3: 10}
    assert read_notes(tmp_path / "elsewhere") == {}


def test_notes_of_finished_tasks_and_names_that_are_no_task_are_left_alone(tmp_path: Path) -> None:
    assert finished_tasks(tmp_path) == set()
    for folder, names in ((PROGRESS_FOLDER, ["00001", "00002", ".nfs0001"]), ("completions", ["00002", ".nfs0002"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text("7")
    assert finished_tasks(tmp_path) == {2}
    assert read_notes(tmp_path, besides={2}) == {1: 7}


def test_a_line_says_where_the_tasks_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with show_progress("slow", 100, "B", lambda: 50, read_state=lambda: "3 running, 4 waiting in SLURM"):
        time.sleep(0.2)
    assert "3 running, 4 waiting in SLURM" in capsys.readouterr().err


def test_without_a_terminal_there_are_only_sparse_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with show_progress("quick", 100, "B", lambda: 50):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with show_progress("slow", 100, "B", lambda: 50):
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("slow") and " 50%" in line for line in lines)


def test_lines_go_to_the_terminal_even_when_a_task_redirects_stderr_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    reading = threading.Event()

    def read_done() -> int:
        if threading.current_thread() is not threading.main_thread():
            reading.wait()  # the follower gets no further before stderr is redirected
        return 50

    elsewhere = io.StringIO()
    with show_progress("slow", 100, "B", read_done), redirect_stderr(elsewhere):
        reading.set()
        time.sleep(0.2)
    assert elsewhere.getvalue() == ""
    assert capsys.readouterr().err.startswith("slow")
