"""What every executor shares: which tasks of a stage are done, how one task runs, and how its failure is told."""

import io
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from pathlib import Path
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger


class TaskError(Exception):
    """A task failed; the message says which, why and what to do."""


class StageExecutor(PipelineExecutor):  # type: ignore[misc]  # datatrove has no types
    """Runs the tasks of one stage with datatrove's logs and completion markers.

    A task is done when its output is there as well as its marker. The last step of the pipeline says so:
    `is_finished(rank)`.
    """

    follow_seconds = 0.2  # between two looks at markers and notes
    state = ""  # where the tasks are, in words for the bar

    @abstractmethod
    def run_tasks(self, ranks: Sequence[int]) -> None:
        """Run these tasks. Raises TaskError for the first that fails; those already running still finish."""

    def is_rank_completed(self, rank: int) -> bool:
        """Return whether the task left its marker and its output."""
        return super().is_rank_completed(rank) and self.pipeline[-1].is_finished(rank)

    def get_incomplete_ranks(self, ranks: Sequence[int] | None = None, skip_completed: bool | None = None) -> list[int]:
        """Return the tasks that are still to run."""
        incomplete = super().get_incomplete_ranks(ranks, skip_completed)
        without_marker = set(incomplete)
        every = range(self.world_size) if ranks is None else ranks
        return [rank for rank in every if rank in without_marker or not self.pipeline[-1].is_finished(rank)]

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> None:
        # datatrove sends its log to the task's log file and to whatever sys.stderr is; the second is for our bar.
        # Its Ray executor logs to a folder in /tmp that all users and stages of a node share: hence not super().
        task = deepcopy(self)
        failures = _remember_failures(task.pipeline[-1])
        with redirect_stderr(_Nowhere()):
            try:
                PipelineExecutor._run_for_rank(task, rank, local_rank, node_rank)
            except OSError as error:
                # On a full disk the log cannot be closed either, and that error would hide the task's own.
                raise (failures or [error])[0] from None
            finally:
                logger.remove()

    def failure_of(self, rank: int, words: str) -> TaskError:
        """Return the error of a task that failed for the reason in `words`."""
        log = Path(self.logging_dir.path) / "logs" / f"task_{rank:05d}.log"
        return TaskError(f"{words}\nFinished tasks are kept: mend it and run the same command again. Log: {log}")


def run_in_worker(executor: StageExecutor, rank: int) -> None:
    """Run one task in a process of its own. Raises TaskError, whatever failed: not every error survives pickling."""
    try:
        executor._run_for_rank(rank)
    except Exception as error:
        raise TaskError(describe_error(error)) from error


def describe_error(error: Exception) -> str:
    """Return what a failed task says to the user: the message alone where the user can mend it, else its kind too."""
    for_user = isinstance(error, ValueError | OSError | TaskError)
    return str(error) if for_user else f"{type(error).__name__}: {error}"


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
