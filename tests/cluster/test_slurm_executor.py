"""data_prep on a real SLURM."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.executors import slurm_executor
from data_prep.executors.slurm_jobs import RECORD_NAME, cancel_leftovers, queue_states
from data_prep.executors.stage import TaskError
from tests.cluster.slurm import Cluster
from tests.integration.test_prep_kills import arguments, hashes_of, start, wait_for_files, write_corpus
from tests.unit.data_prep.example_steps import SleepRank, WriteRank, outputs
from tests.unit.data_prep.executors.test_executor import ROOT, run
from tests.unit.data_prep.executors.test_slurm_executor import start as start_stage

pytestmark = pytest.mark.cluster

SLURM = ["executor.kind=slurm", "executor.workers=4"]


@pytest.fixture(autouse=True)
def tests_on_the_nodes(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(slurm_executor, "QUEUE_SECONDS", 2.0)
    if slurm_cluster.daemons:  # one machine: what one node has written the others see
        monkeypatch.setattr(slurm_executor, "SETTLE_SECONDS", 1.0)


@pytest.mark.slow
def test_shards_are_those_of_the_local_executor_also_after_a_kill(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "docs")
    assert main(arguments(corpus, tmp_path / "local")) == 0
    process = start(corpus, tmp_path / "slurm", *SLURM, "seed=1")
    wait_for_files(tmp_path / "slurm", ".work/build/completions/*", 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    jobs = ["executor.slurm.max_array_size=4", "executor.slurm.tasks_per_job=3"]
    assert main(arguments(corpus, tmp_path / "slurm", *SLURM, *jobs)) == 0
    assert hashes_of(tmp_path / "slurm") == hashes_of(tmp_path / "local")


def test_a_failed_task_is_one_message_and_what_waits_is_cancelled(tmp_path: Path) -> None:
    step = WriteRank(tmp_path, failing=(0,))
    with pytest.raises(TaskError, match=r"^file a, line 3: bad; mend it\nFinished tasks are kept.*task_00000\.log$"):
        run(tmp_path, step, SLURM, tasks=300)
    assert not (tmp_path / "stage" / RECORD_NAME).exists()
    assert 0 < len(list(tmp_path.glob("*.out"))) < 299


@pytest.mark.slow  # SLURM knows no limit below a minute
def test_a_task_over_its_time_is_named_with_slurms_words(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"without a result.*: 1; .* ends with: .*DUE TO TIME LIMIT"):
        run(tmp_path, SleepRank(tmp_path), [*SLURM, "executor.slurm.time=00:01:00"], tasks=2)


def test_an_interrupt_cancels_the_jobs(tmp_path: Path) -> None:
    process = start_stage(tmp_path)
    job_name = (tmp_path / "stage" / RECORD_NAME).read_text()
    process.send_signal(signal.SIGINT)
    assert f"cancelled the jobs {job_name}" in process.communicate(timeout=120)[0]
    cancel_leftovers(tmp_path)
    assert not queue_states(job_name)


@pytest.mark.slow
def test_a_task_that_slurm_puts_back_into_the_queue_runs_again(slurm_cluster: Cluster, tmp_path: Path) -> None:
    process = start_stage(tmp_path)
    job_name = (tmp_path / "stage" / RECORD_NAME).read_text()
    (tmp_path / "awake").touch()
    queue = ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i", f"--name={job_name}"]
    running = subprocess.run(queue, capture_output=True, text=True, check=True).stdout.split()
    for job in running:
        subprocess.run(["scontrol", "requeue", job], check=True)
    for job in running:
        slurm_cluster.start_now(job)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert outputs(tmp_path, 4) == ["done\n"] * 4
