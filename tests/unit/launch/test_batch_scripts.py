"""The jobs of launch/slurm when a signal comes at a bad moment or SLURM is busy, with stand-ins for its commands."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.launch.manifests import ROOT

SLURM = ROOT / "launch" / "slurm"
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1"}

# The first calls of cat and squeue may do something else. srun and python work for half a minute unless they are told.
STAND_INS = {
    "cat": 'if mkdir "$PLACE/cat-called" 2>/dev/null; then eval "$FIRST_CAT"; fi; exec /bin/cat "$@"',
    "squeue": 'if mkdir "$PLACE/squeue-called" 2>/dev/null; then eval "$FIRST_SQUEUE"; fi; echo "${STATE:-RUNNING}"',
    "scontrol": 'echo "scontrol $*" >>"$PLACE/calls"',
    "srun": 'trap "${TOLD-exit 0}" USR1; touch "$PLACE/works"; for _ in {1..600}; do /bin/sleep 0.05; done; exit 9',
    "python": 'trap "exit 143" TERM; touch "$PLACE/works"; for _ in {1..600}; do /bin/sleep 0.05; done',
    "sleep": '[ "$1" = 2 ] || exec /bin/sleep "$@"',
}


def run_until_requeued(script: str, folder: Path, tell: signal.Signals | None = None, **settings: str) -> None:
    """Run a job until it has put itself back into the queue; `tell` it to leave when it works, if given."""
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": "python", "PLACE": str(folder)}
    environment = os.environ | JOB | own | {"FIRST_CAT": "", "FIRST_SQUEUE": ""} | settings
    with subprocess.Popen(["bash", SLURM / script, f"run_dir={folder}/run"], cwd=ROOT, env=environment) as job:
        try:
            (folder / "job").write_text(str(job.pid))
            if tell:
                wait_for(folder / "works", job)
                job.send_signal(tell)
            wait_for(folder / "calls", job)
        finally:
            job.kill()
    assert (folder / "calls").read_text() == "scontrol requeue 7\n"


def wait_for(path: Path, job: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 25
    while not path.exists():
        assert job.poll() is None, f"it ended with {job.returncode}"
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", ["USR1", "TERM"])
def test_a_signal_that_comes_before_the_ranks_start_is_not_lost(number: str, tmp_path: Path) -> None:
    early = f'until [ -s "$PLACE/job" ]; do /bin/sleep 0.01; done; kill -{number} "$(<"$PLACE/job")"'
    run_until_requeued("pretrain.sbatch", tmp_path, FIRST_CAT=early)


@pytest.mark.parametrize("script", ["pretrain.sbatch", "data_prep.sbatch"])
@pytest.mark.parametrize("first", ["exit 1", "STATE=SIGNALING"])
def test_a_job_comes_back_though_slurm_is_too_busy_at_first(script: str, first: str, tmp_path: Path) -> None:
    """It does not answer; or it answers while a signal to the job is still on its way."""
    run_until_requeued(script, tmp_path, signal.SIGUSR1, FIRST_SQUEUE=first)


def test_ranks_that_do_not_leave_are_given_up_at_the_time_limit_also_when_no_signal_came_before(tmp_path: Path) -> None:
    run_until_requeued("pretrain.sbatch", tmp_path, signal.SIGTERM, TOLD="", STATE="COMPLETING TimeLimit")
