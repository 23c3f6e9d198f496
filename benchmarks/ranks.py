"""A function on every rank of a fresh group of local processes: no memory, no cache of an earlier measurement."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from pretrain.distributed import start_ranks
from tests.distributed.workers import free_port, rank_environment

COLLECTIVE_TIMEOUT_SECONDS = 1800


def run_on_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return `function(ranks, *arguments)` of every rank, in their order; each has one thread for its arithmetic.

    The function must be importable. Raises RuntimeError when a rank ends without a result; it prints its traceback.
    """
    context = multiprocessing.get_context("spawn")
    port = free_port()
    workers = []
    for rank in range(world_size):
        ours, theirs = context.Pipe(duplex=False)
        task = (rank, world_size, port, theirs, function, arguments)
        process = context.Process(target=_run_rank, args=task, daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours))
    try:
        return [_receive(rank, pipe) for rank, (_, pipe) in enumerate(workers)]
    finally:
        for process, _ in workers:
            process.kill()
            process.join()


def _run_rank(
    rank: int, world_size: int, port: int, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """The body of one process. Whatever it raises ends it, and with it the collectives that others wait in."""
    os.environ |= rank_environment(rank, world_size, port)
    torch.set_num_threads(1)
    ranks = start_ranks(COLLECTIVE_TIMEOUT_SECONDS)
    result = function(ranks, *arguments)
    dist.barrier(group=ranks.control_group)  # nobody's connections close while others still use them
    pipe.send(result)


def _receive(rank: int, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError(f"rank {rank} ended without a result; the reason is printed above") from None
