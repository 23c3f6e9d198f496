import os
import signal
from pathlib import Path

import pytest
from datatrove.pipeline.base import PipelineStep

from data_prep.executor import TaskError, run_stage


class WriteRank(PipelineStep):  # type: ignore[misc]
    """Appends a line to a file named after the rank; fails as told while the file `mend` is absent."""

    def __init__(self, folder: Path, failing: int | None = None, failure: str = "error") -> None:
        super().__init__()
        self.folder = folder
        self.failing = failing
        self.failure = failure

    def is_finished(self, rank: int) -> bool:
        return (self.folder / f"{rank}.out").is_file()

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        if rank == self.failing and not (self.folder / "mend").exists():
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"error": ValueError("file a, line 3: bad; mend it"), "bug": KeyError("oops")}[self.failure]
        with (self.folder / f"{rank}.out").open("a") as file:
            file.write("done\n")


def run(folder: Path, step: WriteRank, workers: int, tasks: int = 4) -> None:
    run_stage("test", [step], stage_dir=folder / "stage", workers=workers, task_sizes=[1] * tasks, unit=" tasks")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_task_is_one_message_and_finished_tasks_are_kept(
    tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    step = WriteRank(tmp_path, failing=2)
    with pytest.raises(TaskError, match=r"^file a, line 3: bad; mend it\nFinished tasks are kept.*task_00002\.log$"):
        run(tmp_path, step, workers)
    assert "Traceback" in (tmp_path / "stage" / "logs" / "task_00002.log").read_text()
    (tmp_path / "mend").touch()
    run(tmp_path, step, workers)
    assert [(tmp_path / f"{rank}.out").read_text() for rank in range(4)] == ["done\n"] * 4
    output = capfd.readouterr()
    assert "of 4 tasks are already done" in output.out
    assert output.err == ""


def test_a_bug_in_a_task_names_its_kind(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^KeyError: 'oops'"):
        run(tmp_path, WriteRank(tmp_path, failing=0, failure="bug"), workers=1)


@pytest.mark.timeout(60)
def test_a_killed_worker_ends_the_run_instead_of_hanging_it(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"a worker process was killed.*lower executor\.workers"):
        run(tmp_path, WriteRank(tmp_path, failing=1, failure="killed"), workers=2)


def test_a_task_whose_output_is_gone_runs_again_though_its_marker_is_there(tmp_path: Path) -> None:
    step = WriteRank(tmp_path)
    run(tmp_path, step, workers=1)
    (tmp_path / "1.out").unlink()
    run(tmp_path, step, workers=1)
    assert [(tmp_path / f"{rank}.out").read_text() for rank in range(4)] == ["done\n"] * 4
