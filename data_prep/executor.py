"""Runs the tasks of a stage on this machine: datatrove's executor, but nothing hangs and the terminal stays quiet."""

import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from copy import deepcopy
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from tqdm import tqdm

from data_prep.progress import PROGRESS_FOLDER, read_notes, show_progress


class TaskError(Exception):
    """A task failed; the message says which, why and what to do."""


class LocalExecutor(LocalPipelineExecutor):  # type: ignore[misc]  # datatrove has no types
    """datatrove's local executor: its logs and completion markers; a task is done when its output is there as well.

    The last step of the pipeline says so: `is_finished(rank)`. datatrove's own `run` uses a `multiprocess.Pool`,
    which waits for ever when a worker is killed (by the memory killer, say).
    """

    def is_rank_completed(self, rank: int) -> bool:
        """Return whether the task left its marker and its output."""
        return super().is_rank_completed(rank) and self.pipeline[-1].is_finished(rank)

    def get_incomplete_ranks(self, ranks: Sequence[int] | None = None, skip_completed: bool | None = None) -> list[int]:
        """Return the tasks that are still to run."""
        incomplete = super().get_incomplete_ranks(ranks, skip_completed)
        without_marker = set(incomplete)
        every = range(self.world_size) if ranks is None else ranks
        return [rank for rank in every if rank in without_marker or not self.pipeline[-1].is_finished(rank)]

    def run(self) -> None:
        """Run the incomplete tasks. Raises TaskError for the first that fails; those already running still finish."""
        ranks = self.get_incomplete_ranks()
        if self.workers > 1 and len(ranks) > 1:
            self._run_in_processes(ranks)
            return
        for rank in ranks:
            try:
                deepcopy(self)._run_for_rank(rank)
            except Exception as error:
                raise self._explain(rank, error) from error

    def _run_in_processes(self, ranks: list[int]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["data_prep.readers", "data_prep.tasks"])  # a second of imports a worker
        workers = min(self.workers, len(ranks))
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            futures: dict[Future[None], int] = {}
            try:
                for rank in ranks:
                    futures[pool.submit(self._run_for_rank, rank)] = rank
                for future in as_completed(futures):
                    rank = futures[future]
                    future.result()
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
            except Exception as error:
                pool.shutdown(wait=True, cancel_futures=True)
                raise self._explain(rank, error) from error

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> None:
        # datatrove sends its log to the task's log file and to whatever sys.stderr is; the second is for our bar.
        failures = _remember_failures(self.pipeline[-1])
        with redirect_stderr(_Nowhere()):
            try:
                super()._run_for_rank(rank, local_rank, node_rank)
            except OSError as error:
                # On a full disk the log cannot be closed either, and that error would hide the task's own.
                raise (failures or [error])[0] from None
            finally:
                logger.remove()

    def _explain(self, rank: int, error: Exception) -> TaskError:
        log = Path(self.logging_dir.path) / "logs" / f"task_{rank:05d}.log"
        if isinstance(error, BrokenProcessPool):
            return TaskError(
                "a worker process was killed from outside, most likely for want of memory; "
                "lower executor.workers or executor.bucket_bytes. Finished tasks are kept: run the same command again"
            )
        words = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        return TaskError(f"{words}\nFinished tasks are kept: mend it and run the same command again. Log: {log}")


def _remember_failures(step: PipelineStep) -> list[Exception]:
    """Return a list that gets what `step.run` will raise; `step` is this task's own copy."""
    failures: list[Exception] = []
    run = step.run

    def run_and_remember(*arguments: Any) -> None:
        try:
            run(*arguments)
        except Exception as error:
            failures.append(error)
            raise

    step.run = run_and_remember
    return failures


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def _start_worker() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def run_stage(
    label: str, steps: Sequence[PipelineStep], *, stage_dir: Path, workers: int, task_sizes: Sequence[int], unit: str
) -> None:
    """Run one task per entry of `task_sizes` (in `unit`, for the bar); tasks that are done are kept.

    Prints what is already done and shows one bar over all tasks. Raises TaskError when a task fails.
    """
    executor = LocalExecutor(list(steps), tasks=len(task_sizes), workers=workers, logging_dir=str(stage_dir))
    incomplete = set(executor.get_incomplete_ranks())
    num_done = len(task_sizes) - len(incomplete)
    if num_done:
        print(f"{label}: {num_done} of {len(task_sizes)} tasks are already done")
    if not incomplete:
        return
    (stage_dir / "completions").mkdir(parents=True, exist_ok=True)
    for rank in incomplete:
        (stage_dir / "completions" / f"{rank:05d}").unlink(missing_ok=True)
        (stage_dir / PROGRESS_FOLDER / f"{rank:05d}").unlink(missing_ok=True)

    def read_done() -> int:
        finished = {int(marker.name) for marker in (stage_dir / "completions").iterdir()}
        running = read_notes(stage_dir)
        return sum(task_sizes[rank] for rank in finished) + sum(
            min(done, task_sizes[rank]) for rank, done in running.items() if rank not in finished
        )

    started = time.monotonic()
    with show_progress(label, sum(task_sizes), unit, read_done):
        executor.run()
    seconds = time.monotonic() - started
    rate = tqdm.format_sizeof(sum(task_sizes[rank] for rank in incomplete) / seconds)
    print(f"{label}: {len(incomplete)} tasks in {seconds:.1f} s, {rate}{unit}/s", flush=True)
