"""Runs the tasks of a stage on a Ray cluster, or on one that it starts on this machine."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datatrove.executor.ray import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from data_prep.executor_config import RayConfig
from data_prep.executors.stage import StageExecutor, TaskError, describe_error, run_in_worker

REACH_SECONDS = 30.0
OBJECT_STORE_BYTES = 100_000_000  # of a cluster started here: only the executor itself, some kilobytes, goes through it


class RayExecutor(StageExecutor, RayPipelineExecutor):  # type: ignore[misc]  # datatrove has no types
    """datatrove's Ray executor, but each task is a Ray task of its own.

    datatrove's actors run tasks in a `multiprocess.Pool`, which waits for ever when a process is killed, and its `run`
    tells no failure. All folders must be on a file system that the nodes share, under the same path.
    """

    follow_seconds = 1.0

    def __init__(
        self, steps: Sequence[PipelineStep], *, tasks: int, stage_dir: Path, workers: int, ray: RayConfig
    ) -> None:
        logger.remove()  # it warns of a logging_dir that is not shared
        super().__init__(list(steps), tasks=tasks, workers=workers, logging_dir=str(stage_dir))
        self.cluster = ray

    def run_tasks(self, ranks: Sequence[int]) -> None:
        """Run these tasks. Raises TaskError for the first that fails; those already running still finish."""
        import ray

        memory = {"memory": int(self.cluster.mem_gb_per_task * 1e9)} if self.cluster.mem_gb_per_task else {}
        with _connected(self.cluster, self.workers):
            _check_nodes(self.cluster)
            # No retries: for want of memory Ray would try for ever.
            remote = ray.remote(_run_task).options(num_cpus=self.cluster.cpus_per_task, max_retries=0, **memory)
            executor = ray.put(self)
            waiting = list(reversed(ranks))
            running: dict[ray.ObjectRef[None], int] = {}
            failure: TaskError | None = None
            while running or (waiting and failure is None):
                while waiting and failure is None and len(running) < self.workers:
                    rank = waiting.pop()
                    running[remote.remote(executor, rank)] = rank
                self.state = f"{len(running):,} handed to Ray, {len(waiting):,} waiting"
                (task,), _ = ray.wait(list(running), num_returns=1)
                try:
                    ray.get(task)
                except ray.exceptions.RayError as error:
                    failure = failure or self._explain(running[task], error)
                del running[task]
        if failure:
            raise failure

    def _explain(self, rank: int, error: Exception) -> TaskError:
        import ray

        if isinstance(error, ray.exceptions.RayTaskError):
            return self.failure_of(rank, describe_error(error.cause))
        return TaskError(
            f"Ray lost the process of task {rank}, most likely for want of memory: {str(error).splitlines()[0]}\n"
            "Finished tasks are kept: lower executor.workers or executor.bucket_bytes, or raise "
            "executor.ray.mem_gb_per_task, and run the same command again"
        )


def _run_task(executor: RayExecutor, rank: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    run_in_worker(executor, rank)


@contextmanager
def _connected(cluster: RayConfig, workers: int) -> Iterator[None]:
    import ray

    options: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {
            "address": "local",
            "num_cpus": workers * cluster.cpus_per_task,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        _check_reachable(cluster.address)
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises its own kinds, ConnectionError and bare Exception
        place = "start Ray on this machine" if cluster.address is None else f"reach Ray at {cluster.address}"
        raise TaskError(
            f"cannot {place}: {error}\nCheck executor.ray.address and run the same command again"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_nodes(cluster: RayConfig) -> None:
    # Ray itself waits for ever, and in silence, for a node that can take the task.
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for key, asked, resource, unit in (
        ("cpus_per_task", cluster.cpus_per_task, "CPU", 1),
        ("mem_gb_per_task", cluster.mem_gb_per_task or 0, "memory", 1e9),
    ):
        largest = max((node.get(resource, 0) for node in nodes), default=0)
        nodes = [node for node in nodes if node.get(resource, 0) >= int(asked * unit)]
        if not nodes:
            raise TaskError(
                f"executor.ray.{key}={asked} is more than any node of Ray has: the largest that could take a task has "
                f"{largest / unit:g}\nFinished tasks are kept: lower it or add a node, and run the same command again"
            )


def _check_reachable(address: str | None) -> None:
    # Ray itself tries for a quarter of an hour, and what it says then does not name the address.
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
