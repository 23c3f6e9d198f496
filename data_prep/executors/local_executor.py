"""Runs the tasks of a stage on this machine, in processes of their own; a killed worker ends the run at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from data_prep.executors.stage import StageExecutor, TaskError, describe_error, run_in_worker


class LocalExecutor(StageExecutor, LocalPipelineExecutor):  # type: ignore[misc]  # datatrove has no types
    """datatrove's local executor without its `multiprocess.Pool`, which waits for ever when a worker is killed."""

    def __init__(self, steps: Sequence[PipelineStep], *, tasks: int, stage_dir: Path, workers: int) -> None:
        super().__init__(list(steps), tasks=tasks, workers=workers, logging_dir=str(stage_dir))

    def run_tasks(self, ranks: Sequence[int]) -> None:
        """Run these tasks. Raises TaskError for the first that fails; those already running still finish."""
        if self.workers > 1 and len(ranks) > 1:
            self._run_in_processes(ranks)
            return
        for rank in ranks:
            try:
                self._run_for_rank(rank)
            except Exception as error:
                raise self._explain(rank, error) from error

    def _run_in_processes(self, ranks: Sequence[int]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["data_prep.reading.readers", "data_prep.tasks"])  # a second of imports a worker
        workers = min(self.workers, len(ranks))
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            waiting = list(reversed(ranks))
            running: dict[Future[None], int] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < workers:  # what the pool has queued it starts after a failure too
                        rank = waiting.pop()
                        running[pool.submit(run_in_worker, self, rank)] = rank
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        rank = running.pop(future)
                        future.result()
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
            except Exception as error:
                pool.shutdown(wait=True, cancel_futures=True)
                raise self._explain(rank, error) from error

    def _explain(self, rank: int, error: Exception) -> TaskError:
        if isinstance(error, BrokenProcessPool):
            return TaskError(
                "a worker process was killed from outside, most likely for want of memory; "
                "lower executor.workers or executor.bucket_bytes. Finished tasks are kept: run the same command again"
            )
        return self.failure_of(rank, describe_error(error))


def _start_worker() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
