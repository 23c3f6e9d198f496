"""A group of real processes on gloo that runs one function after another: joining once pays for many tests."""

import contextlib
import multiprocessing
import os
import random
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

COLLECTIVE_TIMEOUT_SECONDS = 60
CALL_TIMEOUT_SECONDS = 240
EXIT_TIMEOUT_SECONDS = 5


_PORTS = iter(random.SystemRandom().sample(range(20000, 32000), 1000))
"""Below those that Linux gives to connections and to servers that name none: nobody takes one before it is used."""


def free_port() -> int:
    """Return a TCP port that nobody listens on now, another one at each call."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise RuntimeError("a thousand ports are in use, or were given out")


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return what torchrun would set for a process of one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def serve(rank: int, world_size: int, port: int, pipe: Connection) -> None:
    """Join the group, then answer calls until the pipe closes. The module-level body of a worker process."""
    os.environ |= rank_environment(rank, world_size, port) | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    import torch

    from pretrain.distributed import start_ranks

    torch.set_num_threads(1)
    ranks = start_ranks(COLLECTIVE_TIMEOUT_SECONDS)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((function(ranks, *arguments), None))
        except BaseException:
            pipe.send((None, traceback.format_exc()))


class WorkerGroup:
    """`world_size` processes. A call that hangs or fails ends the group; the next call starts a new one."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._workers: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return `function(ranks, *arguments)` of every rank. The function must be importable."""
        if not self._workers:
            self._start()
        for _, pipe in self._workers:
            pipe.send((function, arguments))
        results = []
        for rank, (_, pipe) in enumerate(self._workers):
            if not pipe.poll(CALL_TIMEOUT_SECONDS):
                self.close()
                raise TimeoutError(f"rank {rank} gave no answer in {CALL_TIMEOUT_SECONDS} s")
            try:
                results.append(pipe.recv())
            except EOFError:
                self.close()
                raise RuntimeError(f"rank {rank} died") from None
        errors = [f"rank {rank}:\n{error}" for rank, (_, error) in enumerate(results) if error]
        if errors:
            self.close()
            raise AssertionError("\n".join(errors))
        return [value for value, _ in results]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        port = free_port()
        for rank in range(self.world_size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, self.world_size, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def close(self) -> None:
        """End the processes: all at once, and none is waited for longer than the others need."""
        for _, pipe in self._workers:
            pipe.close()
        deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS
        for process, _ in self._workers:
            process.join(timeout=max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._workers = []
