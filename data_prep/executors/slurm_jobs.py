"""SLURM's queue by job name: how many tasks wait and run, cancelling them, and what a killed start has left there."""

import subprocess
import time
from collections import Counter
from pathlib import Path

from data_prep.executors.stage import TaskError

# In the stage's folder while its jobs may exist: their name. A start that is killed cannot cancel them; the next does.
RECORD_NAME = "slurm_job"

CANCEL_SECONDS = 300.0  # SLURM kills a task 30 s after it was told, by default
LOOK_SECONDS = 2.0


def queue_states(job_name: str) -> Counter[str]:
    """Return how many array tasks of that name are in each state of SLURM's queue ("PENDING", "RUNNING", ...).

    Raises OSError when squeue does not answer, with its words.
    """
    return Counter(_run("squeue", "--noheader", "--array", "--format=%T", f"--name={job_name}").split())


def cancel_jobs(job_name: str, *options: str) -> None:
    """Cancel the array tasks of that name (`--state=PENDING`: those that wait). Raises OSError when scancel fails."""
    _run("scancel", f"--name={job_name}", *options)


def write_record(stage_dir: Path, job_name: str) -> None:
    """Note that jobs of that name are about to be submitted for this stage."""
    (stage_dir / RECORD_NAME).write_text(job_name)


def remove_record(stage_dir: Path) -> None:
    """Note that no job of this stage is left."""
    (stage_dir / RECORD_NAME).unlink(missing_ok=True)


def cancel_leftovers(folder: Path) -> None:
    """Cancel the jobs of stages below `folder` that a killed start left in SLURM, and wait until they are gone.

    They could write over the files of this start, which may have another config. Raises TaskError when SLURM does not
    answer or the jobs do not go.
    """
    for record in sorted(folder.rglob(RECORD_NAME)):
        job_name = record.read_text().strip()
        try:
            if job_name and queue_states(job_name):
                print(f"cancelling the jobs {job_name} that an earlier start left in SLURM ...", flush=True)
                cancel_jobs(job_name)
                _wait_until_gone(job_name)
        except OSError as error:
            raise TaskError(
                f"{error}\nThe jobs {job_name} of an earlier start may still run: start where SLURM's commands work, "
                f"or cancel them and delete {record}"
            ) from error
        record.unlink()


def _wait_until_gone(job_name: str) -> None:
    deadline = time.monotonic() + CANCEL_SECONDS
    while left := sum(queue_states(job_name).values()):
        if time.monotonic() > deadline:
            raise OSError(f"{left} tasks are still in SLURM's queue {CANCEL_SECONDS:.0f} s after scancel")
        time.sleep(LOOK_SECONDS)


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip() or f"exit status {error.returncode}"
        raise OSError(f"{command[0]} failed: {words}") from error
    except FileNotFoundError as error:
        raise OSError(f"{command[0]} is not on this machine's PATH") from error
