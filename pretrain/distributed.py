"""The processes of a run: their group, what they agree on, and how a failure of one becomes a message of all."""

import json
import os
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from conf.checks import require
from pretrain.collective_errors import gist, is_collective_failure
from pretrain.stop import mortal

Result = TypeVar("Result")
Item = TypeVar("Item")

EXIT_FAILURE = 1
JOIN_MARGIN_SECONDS = 5.0  # beyond the timeout, within which torch itself ends most attempts to join
MOST_LOOKED_AT = 256
"""Items of a list that one process looks at for ranks not started yet; of a shard that is two requests."""


class FailureElsewhereError(ValueError):
    """Another rank failed, with this message, and prints it; the rank that gets this error leaves quietly."""


class LostRanksError(RuntimeError):
    """A collective failed: another rank hangs, has died or cannot be reached. Every rank gets and prints its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One process among all. The gloo groups carry small host-side messages; each is used by one thread only."""

    rank: int
    world_size: int
    device: torch.device
    control_group: dist.ProcessGroup  # main thread
    data_group: dist.ProcessGroup  # reader thread
    save_group: dist.ProcessGroup  # thread that writes checkpoints

    @property
    def is_first(self) -> bool:
        """True on rank 0, which writes and prints."""
        return self.rank == 0

    def for_saving(self) -> "Ranks":
        """Return the same ranks, agreeing on `save_group`: for the thread that writes checkpoints, and none else."""
        return replace(self, control_group=self.save_group)

    def broadcast(self, make: Callable[[], Result]) -> Result:
        """Return `make()` of rank 0 on every rank; it must pickle. An error there is raised on all, as `together`."""
        result = self.together(lambda: make() if self.is_first else None)
        message = [result]
        dist.broadcast_object_list(message, src=0, group=self.control_group)
        return message[0]  # type: ignore[return-value]  # None only when make() returns it

    def together(self, act: Callable[[], Result]) -> Result:
        """Return `act()` once it went well on every rank; it is also a barrier.

        If it did not, the lowest rank that failed raises its error and all others FailureElsewhereError with the same
        message. Only what a user can mend (ValueError, OSError) is carried over; a bug ends its rank.
        """
        result, failure = None, None
        try:
            result = act()
        except (ValueError, OSError) as error:
            failure = error
        self._raise_first(failure)
        return result  # type: ignore[return-value]

    def _raise_first(self, failure: Exception | None) -> None:
        # One integer travels when nobody failed.
        lowest = torch.tensor(self.world_size if failure is None else self.rank)
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN, group=self.control_group)
        if int(lowest) < self.world_size:
            message = [str(failure)]
            dist.broadcast_object_list(message, src=int(lowest), group=self.control_group)
            if failure is not None and int(lowest) == self.rank:
                raise failure
            raise FailureElsewhereError(message[0])

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return those of `items` that this rank looks at; each is of one rank."""
        return items[self.rank :: self.world_size]

    def gather(self, mine: Result) -> list[Result]:
        """Return what each rank gives, in their order, on rank 0; nothing on the others. For small and rare things."""
        everyone: list[Result] = [mine] * (self.world_size if self.is_first else 0)
        dist.gather_object(mine, everyone or None, dst=0, group=self.control_group)
        return everyone

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks of a CPU tensor (any dtype), in place."""
        dist.all_reduce(values, group=self.control_group)
        return values

    def all_give(self, number: int) -> bool:
        """Return whether `number`, from 0 to 2**63 - 1, is the same on all ranks."""
        ends = torch.tensor([number, -number])
        dist.all_reduce(ends, op=dist.ReduceOp.MIN, group=self.control_group)
        return bool(ends[0] == -ends[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRanks:
    """Stands in for the `Ranks` of a run that is not started: one process checks for all of them."""

    world_size: int
    rank: int = 0
    is_first: bool = True

    def broadcast(self, make: Callable[[], Result]) -> Result:
        """Return `make()`."""
        return make()

    def together(self, act: Callable[[], Result]) -> Result:
        """Return `act()`."""
        return act()

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return `items`, or `MOST_LOOKED_AT` of them, evenly spread, the first and the last among them."""
        if len(items) <= MOST_LOOKED_AT:
            return items
        return [items[place * (len(items) - 1) // (MOST_LOOKED_AT - 1)] for place in range(MOST_LOOKED_AT)]


def report_failure(error: Exception) -> None:
    """Print a user's error, unless another rank does, and leave it where torchrun looks for the reason of a failure.

    torchrun ends its own report with that reason, so that the message is also the last thing a user sees.
    """
    if not isinstance(error, FailureElsewhereError):
        print(f"error: {error}", file=sys.stderr)
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        reason = {"message": str(error), "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(file).write_text(json.dumps({"message": reason}), encoding="utf-8")


def leave_at_once(error: BaseException) -> NoReturn:
    """Print what no other rank shares, a bug's traceback or lost ranks, and end this process with exit code 1.

    It waits for no thread and no group: they may wait for other ranks, and those for this one. What ends them is that
    its connections close, or the launcher.
    """
    if not isinstance(error, LostRanksError):
        traceback.print_exception(error)
        notes = "; ".join(getattr(error, "__notes__", []))
        error = RuntimeError(f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else ""))
    report_failure(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAILURE)


def start_ranks(timeout_seconds: int, agree: Callable[[Ranks], None] = lambda ranks: None) -> Ranks:
    """Join the process group that torchrun (or a launcher that sets the same variables) describes.

    Without such variables the process is a group of one. A collective that waits longer than the timeout ends the run.
    `agree` is called first of all, with what every release does in the same way: another one may go on otherwise.
    Raises LostRanksError when the others do not come or do not stay, ValueError for more ranks than GPUs.
    """
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        os.environ.setdefault(name, value)
    if os.environ["WORLD_SIZE"] == "1":
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "0")
    _allow_many_sockets()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    timeout = timedelta(seconds=timeout_seconds)
    # DeepSpeed makes groups of its own, which would wait for torch's half an hour.
    # Internal names: tests/integration/test_lost_ranks.py guards them.
    vars(distributed_c10d).update(default_pg_timeout=timeout, default_pg_nccl_timeout=timeout)
    _join("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl", timeout)
    assert dist.group.WORLD is not None
    groups = dict.fromkeys(("control_group", "data_group", "save_group"), dist.group.WORLD)
    ranks = Ranks(rank=dist.get_rank(), world_size=dist.get_world_size(), device=device, **groups)
    try:
        agree(ranks)
        ranks.together(lambda: take_device(device))
        return replace(ranks, **{name: dist.new_group(backend="gloo", timeout=timeout) for name in groups})
    except RuntimeError as error:
        if not is_collective_failure(error):
            raise
        raise LostRanksError(_describe_lost(gist(error))) from error


def take_device(device: torch.device) -> None:
    """Make it the device of this process. Raises ValueError when there is no such GPU."""
    if device.type == "cuda":
        count = torch.cuda.device_count()
        require(
            (device.index or 0) < count,
            "LOCAL_RANK",
            device.index,
            f"this process sees {count} GPUs and takes the one of that number; start at most {count} ranks on a node "
            "(torchrun: --nproc-per-node), and let each of them see all GPUs",
        )
        torch.cuda.set_device(device)


def _join(backend: str, timeout: timedelta) -> None:
    """Join the default group. Raises LostRanksError, or ends the process with its message, when that cannot be."""
    # torch waits without end for the first answer at MASTER_PORT, should another program listen there.
    lost = _describe_lost("no answer: does another program listen there?")
    bound = threading.Timer(timeout.total_seconds() + JOIN_MARGIN_SECONDS, leave_at_once, [LostRanksError(lost)])
    bound.daemon = True
    bound.start()
    try:
        with mortal():
            dist.init_process_group(backend, timeout=timeout)
    except dist.DistError as error:
        if "EADDRINUSE" in str(error):
            raise LostRanksError(
                f"MASTER_PORT={os.environ.get('MASTER_PORT')} is in use on {socket.gethostname()} by another program; "
                "start all ranks anew with a free port (torchrun: --master-port)"
            ) from error
        raise LostRanksError(_describe_lost(str(error).splitlines()[0])) from error
    finally:
        bound.cancel()


def _describe_lost(reason: str) -> str:
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not join the others at {where} ({reason}): "
        "one was not started, or has ended; start them all anew"
    )


def _allow_many_sockets() -> None:
    """Raise this process's limit of open files as far as it may: gloo connects each rank with each, in every group."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
