"""What only SLURM needs, against the stand-in's commands; what every executor does is in test_executor.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.executors import slurm_executor, slurm_jobs
from data_prep.executors.slurm_jobs import RECORD_NAME, cancel_leftovers, queue_states
from data_prep.executors.stage import TaskError
from tests.slurm_stand_in import Queue
from tests.unit.data_prep.example_steps import RefuseOuterJob, SleepRank, WriteRank, outputs
from tests.unit.data_prep.executors.test_executor import ROOT, run


class EndByTimeLimit(WriteRank):
    """Leaves the words of SLURM in the log of rank 1, and is killed."""

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        if rank == 1:
            os.write(2, b"slurmstepd: error: *** STEP 1.0 ON n1 CANCELLED DUE TO TIME LIMIT ***\n")
            os.kill(os.getpid(), signal.SIGKILL)
        super().run(data, rank, world_size)


class WriteLast(WriteRank):
    """Rank 2 writes its line once no task waits in the stand-in's queue any more."""

    queue: Queue

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        while rank == 2 and any(state == "PENDING" for _, state, _ in self.queue.elements().values()):
            time.sleep(0.05)
        super().run(data, rank, world_size)


SLURM = ["executor.kind=slurm", "executor.workers=2"]


def submissions(slurm: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (slurm / "calls").read_text().splitlines()]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.02)


def test_options_go_to_sbatch_and_what_is_left_out_is_left_to_the_cluster(tmp_path: Path, slurm: Path) -> None:
    run(tmp_path, WriteRank(tmp_path), SLURM)
    given = ["time=01:00:00", "partition=cpu", "mem_per_cpu_gb=3", "cpus_per_task=2", "sbatch_args={account: nlp}"]
    (tmp_path / "3.out").unlink()
    run(tmp_path, WriteRank(tmp_path), [*SLURM, *(f"executor.slurm.{option}" for option in given)])
    first, second = submissions(slurm)
    assert not {"time", "partition", "mem-per-cpu", "qos", "account", "dependency"} & set(first)
    assert (first["array"], first["cpus-per-task"]) == ("0-3%2", "1")
    assert (second["array"], second["cpus-per-task"], second["mem-per-cpu"]) == ("0-0%2", "2", "3G")
    assert (second["time"], second["partition"], second["account"]) == ("01:00:00", "cpu", "nlp")
    assert first["job-name"] != second["job-name"]
    assert "srun --cpus-per-task=2 " in (tmp_path / "stage" / "launch_script.slurm").read_text()


@pytest.mark.parametrize("more", [["max_array_size=2"], ["tasks_per_job=3"], ["max_array_size=1", "tasks_per_job=2"]])
def test_any_cut_into_arrays_and_jobs_runs_every_task_once(tmp_path: Path, slurm: Path, more: list[str]) -> None:
    run(tmp_path, WriteRank(tmp_path), [*SLURM, *(f"executor.slurm.{option}" for option in more)], tasks=5)
    assert outputs(tmp_path, 5) == ["done\n"] * 5
    assert len(submissions(slurm)) == {"max_array_size=2": 3, "tasks_per_job=3": 1, "max_array_size=1": 3}[more[0]]


def test_the_words_of_sbatch_are_in_the_message(tmp_path: Path, slurm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskError, match=r"^sbatch refused the tasks: sbatch: error: invalid partition.*nowhere\n"):
        run(tmp_path, WriteRank(tmp_path), [*SLURM, "executor.slurm.partition=nowhere"])
    assert capfd.readouterr().err == ""
    run(tmp_path, WriteRank(tmp_path), SLURM)


def test_a_queue_that_does_not_answer_for_a_while_is_asked_again(tmp_path: Path, slurm: Path) -> None:
    (slurm / "failing_squeues").write_text("3")
    run(tmp_path, WriteRank(tmp_path), SLURM)
    assert outputs(tmp_path, 4) == ["done\n"] * 4


def test_a_queue_that_stays_silent_ends_the_run_and_cancels_the_jobs(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "QUEUE_PATIENCE_SECONDS", 1.0)
    (slurm / "failing_squeues").write_text("1000")
    with pytest.raises(TaskError, match=r"squeue failed: slurm_load_jobs error.*\nFinished tasks are kept"):
        run(tmp_path, SleepRank(tmp_path), SLURM)
    (slurm / "failing_squeues").unlink()
    cancel_leftovers(tmp_path)
    assert not list((slurm / "queue").glob("*_*"))


def test_a_failure_cancels_what_waits_and_lets_finish_what_runs(tmp_path: Path, slurm: Path) -> None:
    step = WriteLast(tmp_path, failing=(0, 1))
    step.queue = Queue(slurm)
    with pytest.raises(TaskError, match=r"^file a, line 3: bad; mend it\n1 other tasks failed too\nFinished"):
        run(tmp_path, step, [*SLURM, "executor.workers=3"], tasks=40)
    assert (tmp_path / "2.out").exists()
    assert len(list(tmp_path.glob("*.out"))) < 38


def test_tasks_that_vanish_are_named_with_the_last_line_of_their_log(tmp_path: Path, slurm: Path) -> None:
    step = WriteRank(tmp_path, failing=(1, 2), failure="killed")
    with pytest.raises(
        TaskError, match=r"without a result: 1, 2; \S+_1\.out ends with: .*Killed.*\nFinished tasks are kept: run"
    ):
        run(tmp_path, step, SLURM)
    assert not (tmp_path / "stage" / RECORD_NAME).exists()


def test_the_log_of_a_lost_task_is_the_one_of_its_own_array(tmp_path: Path, slurm: Path) -> None:
    step = WriteRank(tmp_path, failing=(1,), failure="killed")
    with pytest.raises(TaskError, match=r"without a result: 1; \S+/1_1\.out ends with: .*Killed"):
        run(tmp_path, step, [*SLURM, "executor.slurm.max_array_size=2"])


def test_time_and_memory_are_blamed_where_slurm_itself_says_so(tmp_path: Path, slurm: Path) -> None:
    words = r"result, most likely for want of time or memory: 1; .*TIME LIMIT.*\n.*: raise executor\.slurm\.time"
    with pytest.raises(TaskError, match=words):
        run(tmp_path, EndByTimeLimit(tmp_path), SLURM)


def test_it_can_be_started_inside_a_job_of_its_own(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    run(tmp_path, RefuseOuterJob(tmp_path), SLURM)
    assert outputs(tmp_path, 4) == ["done\n"] * 4


PROGRAM = """
import sys
from pathlib import Path
from data_prep.executors import slurm_executor
from tests.unit.data_prep.example_steps import SleepRank
from tests.unit.data_prep.executors.test_slurm_executor import SLURM, run
slurm_executor.SlurmExecutor.follow_seconds = 0.1
run(Path(sys.argv[1]), SleepRank(Path(sys.argv[1])), SLURM)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder / "1.started")
    return process


def test_an_interrupt_cancels_the_jobs_and_says_how_far_it_is(tmp_path: Path, slurm: Path) -> None:
    process = start(tmp_path)
    wait_for(tmp_path / "stage" / "completions" / "00000")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=240)[0]
    assert "cancelled the jobs data_prep-stage-" in output
    assert "test: 1 of 4 tasks are done" in output
    cancel_leftovers(tmp_path)
    assert not list((slurm / "queue").glob("*_*"))


def test_jobs_that_a_killed_start_left_are_cancelled_by_the_next(
    tmp_path: Path, slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "LOOK_SECONDS", 0.1)
    process = start(tmp_path)
    process.kill()
    process.communicate()
    record = tmp_path / "stage" / RECORD_NAME
    job_name = record.read_text()
    assert sum(queue_states(job_name).values()) >= 3
    cancel_leftovers(tmp_path)
    assert not queue_states(job_name)
    assert not record.exists()
    assert f"cancelling the jobs {job_name}" in capsys.readouterr().out
    cancel_leftovers(tmp_path)
    assert capsys.readouterr().out == ""


def test_jobs_that_may_still_run_are_not_forgotten_where_slurm_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / RECORD_NAME).write_text("data_prep-build-1234")
    with pytest.raises(TaskError, match="squeue is not on this machine's PATH\nThe jobs data_prep-build-1234 of an"):
        cancel_leftovers(tmp_path)
    assert (tmp_path / "stage" / RECORD_NAME).exists()
