"""Whether the run directory can be written, and is one and the same folder for all ranks, found with a probe file."""

import os
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

from pretrain.distributed import PlannedRanks, Ranks

PROBE_SECONDS = 5.0  # what one node makes in a shared folder may take a moment to appear on the others


def require_shared(run_dir: Path, ranks: Ranks | PlannedRanks) -> None:
    """Require that rank 0 can write where the run is to be, and that every rank sees it and may write there too.

    Rank 0 makes an empty file of a fresh name in `run_dir`, or where that is to be made, and removes it again.
    All ranks call it together; raises OSError or ValueError on all of them, naming `run_dir`, rank and host.
    """
    probe = ranks.broadcast(lambda: _make_probe(run_dir))
    try:
        ranks.together(lambda: _require_probe(run_dir, probe, ranks.rank))
    finally:
        if ranks.is_first:
            with suppress(OSError):
                probe.unlink()


def nearest_folder(path: Path) -> Path:
    """Return `path`, or the nearest of its parents that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _make_probe(run_dir: Path) -> Path:
    try:
        probe = nearest_folder(run_dir) / f".lambert-probe-{secrets.token_hex(8)}"
        probe.touch()
    except OSError as error:
        raise OSError(
            f"run_dir={run_dir}: cannot write there ({error}); name a directory that can be written"
        ) from error
    return probe


def _require_probe(run_dir: Path, probe: Path, rank: int) -> None:
    where = f"run_dir={run_dir}: rank {rank} on {socket.gethostname()}"
    deadline = time.monotonic() + PROBE_SECONDS
    while not os.access(probe, os.F_OK):
        if time.monotonic() > deadline:
            raise ValueError(
                f"{where} does not see what rank 0 writes to {probe.parent}: it is another folder there, "
                "or one that it may not read; name one on a file system that all nodes share"
            )
        time.sleep(0.1)
    if not os.access(probe.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{where} cannot write to {probe.parent}, and every rank writes its part of a checkpoint; "
            "name a directory that all can write"
        )
