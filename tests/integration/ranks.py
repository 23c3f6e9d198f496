"""Start the training command on several ranks, as torchrun does, but keep every rank's own output and exit code."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.distributed.workers import free_port

ROOT = Path(__file__).resolve().parents[2]


def start_ranks(
    world_size: int,
    arguments: list[str],
    *,
    module: str = "pretrain",
    last_rank: Sequence[str] = (),
    last_root: Path = ROOT,
    port: int | None = None,
) -> list[subprocess.Popen[str]]:
    """Start `python -m pretrain`, or another module, on each rank; the last has more arguments or other code, if given.

    `last_root` is the folder that the packages of the last rank lie in.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
    common = {"WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1"} | address
    command = [sys.executable, "-m", module, *arguments]
    return [
        subprocess.Popen(
            [*command, *(last_rank if rank == world_size - 1 else ())],
            cwd=last_root if rank == world_size - 1 else ROOT,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]


def wait_for(processes: list[subprocess.Popen[str]], timeout_seconds: float = 240) -> list[tuple[int, str]]:
    """Return exit code and stderr of each; a hang ends in TimeoutExpired, with nothing left running."""
    try:
        outputs = [process.communicate(timeout=timeout_seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def run_ranks(world_size: int, arguments: list[str], timeout_seconds: float = 240) -> list[tuple[int, str]]:
    """Start the command on `world_size` ranks and wait."""
    return wait_for(start_ranks(world_size, arguments), timeout_seconds)
