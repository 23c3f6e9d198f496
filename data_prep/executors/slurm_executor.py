"""Runs the tasks of a stage as a SLURM job array, waits for it and tells its failures as the local executor does."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from datatrove.executor.base import DistributedEnvVars
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from conf.checks import require
from data_prep.atomic_file import write_atomically
from data_prep.executor_config import SlurmConfig
from data_prep.executors.progress import finished_tasks
from data_prep.executors.slurm_jobs import cancel_jobs, queue_states, remove_record, write_record
from data_prep.executors.stage import StageExecutor, TaskError, describe_error

FAILURES_FOLDER = "failures"
QUEUE_SECONDS = 15.0  # between two calls of squeue
QUEUE_PATIENCE_SECONDS = 900.0  # of calls that fail
SETTLE_SECONDS = 90.0  # for which a file of another node may stay unseen: NFS keeps directories in mind for 60 s


class SlurmExecutor(StageExecutor, SlurmPipelineExecutor):  # type: ignore[misc]  # datatrove has no types
    """datatrove's SLURM executor, followed to its end. Submitted tasks load the pickled executor and call `run`.

    All folders must be on a file system that the nodes share, under the same path.
    """

    follow_seconds = 2.0

    def __init__(
        self, steps: Sequence[PipelineStep], *, tasks: int, stage_dir: Path, workers: int, slurm: SlurmConfig
    ) -> None:
        blanks = re.search(r"\s", f"{stage_dir}{sys.executable}")
        require(not blanks, "executor.kind", "slurm", f"takes no folder with a blank in its name, such as {stage_dir}")
        python_first = f'export PATH="{Path(sys.executable).parent}:$PATH" TOKENIZERS_PARALLELISM=false'
        super().__init__(
            list(steps),
            tasks=tasks,
            workers=workers,
            logging_dir=str(stage_dir),
            job_name=f"data_prep-{stage_dir.name.partition('-')[0]}-{secrets.token_hex(4)}",
            partition=slurm.partition,
            time=slurm.time,
            qos=None,
            cpus_per_task=slurm.cpus_per_task,
            mem_per_cpu_gb=slurm.mem_per_cpu_gb,
            sbatch_args=slurm.sbatch_args,
            srun_args={"cpus-per-task": slurm.cpus_per_task},  # since SLURM 22.05 srun does not take sbatch's
            max_array_size=slurm.max_array_size,
            tasks_per_job=slurm.tasks_per_job,
            env_command="\n".join([slurm.setup, python_first] if slurm.setup else [python_first]),
        )
        self.stage_dir = stage_dir
        self.job_ids: list[str] = []  # of the arrays, in the order of their tasks
        self.job_id_retriever = self._note_job

    def run_tasks(self, ranks: Sequence[int]) -> None:
        """Submit these tasks and wait for them. Raises TaskError for those that fail, or when SLURM does not answer.

        Tasks that wait when one fails, and all when this process is interrupted, are cancelled.
        """
        for note in self._failure_notes():
            note.unlink()
        write_record(self.stage_dir, self.job_name)
        try:
            self._submit()
            self._follow(ranks)
        except BaseException:
            with suppress(OSError):  # should scancel fail as well, the record makes the next start do it
                cancel_jobs(self.job_name)
                print(f"cancelled the jobs {self.job_name} in SLURM", flush=True)
            raise
        remove_record(self.stage_dir)
        if failures := {int(note.name): note.read_text(encoding="utf-8") for note in self._failure_notes()}:
            rank, words = min(failures.items())
            others = f"\n{len(failures) - 1} other tasks failed too" if len(failures) > 1 else ""
            raise self.failure_of(rank, words + others)
        if lost := self._settle(ranks):
            raise self._explain_lost(ranks, lost)

    def launch_merge_stats(self) -> None:
        """Submit no job that merges datatrove's statistics: it would wait for ever where a task failed."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """Return sbatch's options; those that the config leaves to the cluster are absent."""
        options = super().get_sbatch_args(max_array)
        absent = {name for name, value in options.items() if value is None}
        if self.mem_per_cpu_gb is None:
            absent.add("mem-per-cpu")
        return {name: value for name, value in options.items() if name not in absent}

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        """Return datatrove's variables, of which no step of ours needs one; its own code asks scontrol for them."""
        return DistributedEnvVars(
            datatrove_node_ips="",
            datatrove_cpus_per_task=str(self.cpus_per_task),
            datatrove_mem_per_cpu=str(self.mem_per_cpu_gb),
            datatrove_gpus_on_node="0",
            datatrove_executor="SLURM",
        )

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> None:
        try:
            super()._run_for_rank(rank, local_rank, node_rank)
        except Exception as error:
            note = self.stage_dir / FAILURES_FOLDER / f"{rank:05d}"
            note.parent.mkdir(exist_ok=True)
            write_atomically(note, describe_error(error).encode())
            raise

    def _submit(self) -> None:
        logger.remove()
        with _outside_of_jobs(), _captured_stderr() as words:
            try:
                self.launch_job()
            except subprocess.CalledProcessError as error:
                words.seek(0)
                refusal = words.read().decode(errors="replace").strip()
                raise TaskError(
                    f"sbatch refused the tasks: {refusal}\nCorrect executor.slurm and run the same command again. "
                    f"Script: {self.stage_dir / 'launch_script.slurm'}"
                ) from error

    def _note_job(self, words: str) -> str:
        self.job_ids.append(words.split()[-1])
        return self.job_ids[-1]

    def _follow(self, ranks: Sequence[int]) -> None:
        """Wait until all tasks have left their markers, or none is left in SLURM's queue."""
        unfinished = set(ranks)
        next_look = answered = time.monotonic()
        while unfinished := unfinished - finished_tasks(self.stage_dir):
            if (now := time.monotonic()) >= next_look:
                next_look = now + QUEUE_SECONDS
                try:
                    if self._failure_notes():
                        cancel_jobs(self.job_name, "--state=PENDING")
                    states = queue_states(self.job_name)
                except OSError as error:  # the controller is busy or restarts
                    if now > answered + QUEUE_PATIENCE_SECONDS:
                        raise TaskError(f"{error}\nFinished tasks are kept: run the same command again") from error
                    continue
                answered = now
                if not states:
                    return
                self.state = f"{states['RUNNING']:,} running, {states['PENDING']:,} waiting in SLURM"
            time.sleep(self.follow_seconds)

    def _settle(self, ranks: Sequence[int]) -> list[int]:
        """Return the tasks without result, when all that the nodes wrote has had the time to be seen here."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (lost := self.get_incomplete_ranks(ranks)) and time.monotonic() < deadline:
            time.sleep(self.follow_seconds)
        return list(lost)

    def _failure_notes(self) -> list[Path]:
        folder = self.stage_dir / FAILURES_FOLDER
        return sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []

    def _explain_lost(self, ranks: Sequence[int], lost: Sequence[int]) -> TaskError:
        array, place = divmod(sorted(ranks).index(lost[0]) // self.tasks_per_job, self.max_array_size)
        log = Path(self.slurm_logs_folder) / f"{self.job_ids[array]}_{place}.out"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        of_slurm = [line for line in lines if "slurmstepd" in line]  # "DUE TO TIME LIMIT", "oom_kill event"
        telling = of_slurm or lines
        words = f"; {log} ends with: {telling[-1].strip()}" if telling else ""
        names = ", ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        cause = ", most likely for want of time or memory" if of_slurm else ""
        remedy = "raise executor.slurm.time or mem_per_cpu_gb, or lower executor.bucket_bytes, and " if of_slurm else ""
        return TaskError(
            f"SLURM ended tasks without a result{cause}: {names}{words}\n"
            f"Finished tasks are kept: {remedy}run the same command again. Logs: {self.slurm_logs_folder}"
        )


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    # sbatch hands its environment on. When this process runs in a job itself, that job's limits must not go with it.
    outer = {name: value for name, value in os.environ.items() if name.startswith("SLURM_") and name != "SLURM_CONF"}
    for name in outer:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(outer)


@contextmanager
def _captured_stderr() -> Iterator[IO[bytes]]:
    # datatrove lets sbatch write to this process's stderr; its words belong into our message.
    with tempfile.TemporaryFile() as words:
        saved = os.dup(2)
        os.dup2(words.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(saved, 2)
            os.close(saved)
