"""Runs a stage: its tasks on the executor of the config, those that are done kept, one bar over all of them."""

import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from datatrove.pipeline.base import PipelineStep
from tqdm import tqdm

from conf.checks import require
from data_prep.config import ExecutorConfig, ExecutorKind
from data_prep.executors.local_executor import LocalExecutor
from data_prep.executors.progress import PROGRESS_FOLDER, finished_tasks, read_notes, show_progress
from data_prep.executors.ray_executor import RayExecutor
from data_prep.executors.slurm_executor import SlurmExecutor
from data_prep.executors.stage import StageExecutor


def check_executor(config: ExecutorConfig) -> None:
    """Raise ValueError, with the remedy, when this machine has not got what the executor needs."""
    kind = config.kind
    if kind is ExecutorKind.slurm:
        here = all(map(shutil.which, ("sbatch", "squeue", "scancel")))
        require(here, "executor.kind", kind.value, "sbatch, squeue and scancel must be on this machine's PATH")
    if kind is ExecutorKind.ray:
        here = find_spec("ray") is not None
        require(here, "executor.kind", kind.value, "Ray is not installed; pip install 'lambert-pretraining[ray]'")


def make_executor(
    steps: Sequence[PipelineStep], *, stage_dir: Path, config: ExecutorConfig, num_tasks: int
) -> StageExecutor:
    """Return the executor that the config names, for the tasks of one stage."""
    workers = config.workers
    if config.kind is ExecutorKind.slurm:
        return SlurmExecutor(steps, tasks=num_tasks, stage_dir=stage_dir, workers=workers, slurm=config.slurm)
    if config.kind is ExecutorKind.ray:
        return RayExecutor(steps, tasks=num_tasks, stage_dir=stage_dir, workers=workers, ray=config.ray)
    return LocalExecutor(steps, tasks=num_tasks, stage_dir=stage_dir, workers=workers)


def run_stage(
    label: str,
    steps: Sequence[PipelineStep],
    *,
    stage_dir: Path,
    config: ExecutorConfig,
    task_sizes: Sequence[int],
    unit: str,
) -> None:
    """Run one task per entry of `task_sizes` (in `unit`, for the bar); tasks that are done are kept.

    Prints what is already done, one bar over all tasks, and how far it came. Raises TaskError when a task fails.
    """
    num_tasks = len(task_sizes)
    stage_dir.mkdir(parents=True, exist_ok=True)
    executor = make_executor(steps, stage_dir=stage_dir, config=config, num_tasks=num_tasks)
    incomplete = executor.get_incomplete_ranks()
    if len(incomplete) < num_tasks:
        print(f"{label}: {num_tasks - len(incomplete)} of {num_tasks} tasks are already done")
    if not incomplete:
        return
    _forget(stage_dir, incomplete)

    def read_done() -> int:
        finished = finished_tasks(stage_dir)
        running = read_notes(stage_dir, besides=finished)
        return sum(task_sizes[rank] for rank in finished) + sum(
            min(done, task_sizes[rank]) for rank, done in running.items()
        )

    started = time.monotonic()
    try:
        with show_progress(
            label,
            sum(task_sizes),
            unit,
            read_done,
            read_state=lambda: executor.state,
            refresh_seconds=executor.follow_seconds,
        ):
            executor.run_tasks(incomplete)
    except BaseException:
        print(f"{label}: {len(finished_tasks(stage_dir))} of {num_tasks} tasks are done", flush=True)
        raise
    seconds = time.monotonic() - started
    rate = tqdm.format_sizeof(sum(task_sizes[rank] for rank in incomplete) / seconds)
    print(f"{label}: {len(incomplete)} tasks in {seconds:.1f} s, {rate}{unit}/s", flush=True)


def _forget(stage_dir: Path, ranks: Sequence[int]) -> None:
    """Remove the markers and notes of tasks that are to run."""
    (stage_dir / "completions").mkdir(exist_ok=True)
    for rank in ranks:
        (stage_dir / "completions" / f"{rank:05d}").unlink(missing_ok=True)
        (stage_dir / PROGRESS_FOLDER / f"{rank:05d}").unlink(missing_ok=True)
