"""The file systems of a run and of its shards, tried with some tens of megabytes."""

import os
import shutil
import time
from pathlib import Path

from data_prep.manifest import TRAIN
from pretrain.data.reader import ShardDirectory
from pretrain.doctor.finding import Finding, broken, ok, warn
from pretrain.shared_folder import nearest_folder

PROBE_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
SLOW_BYTES_PER_SECOND = 50e6


def examine_run_dir(run_dir: Path) -> Finding:
    """Write, sync and read a file where `run_dir` is or would be, and remove it. A full disk is said, not filled up."""
    folder = nearest_folder(run_dir.absolute())
    try:
        free = shutil.disk_usage(folder).free
        if free < 2 * PROBE_BYTES:
            return broken("run_dir", f"{folder} has {free / 1e6:.0f} MB free", "no checkpoint would fit: make room")
        write, read = measure(folder)
    except OSError as error:
        return broken("run_dir", f"{folder} cannot be written: {error}", "checkpoints could not be saved")
    seen = f"{folder}: writes {write / 1e6:,.0f} MB/s, reads {read / 1e6:,.0f} MB/s, {free / 1e9:,.0f} GB free"
    if write < SLOW_BYTES_PER_SECOND:
        return warn("run_dir", seen, "BERT-base with LAMB's moments is 1.3 GB a checkpoint: saves take long")
    return ok("run_dir", seen)


def measure(folder: Path) -> tuple[float, float]:
    """Return bytes per second of a synced write and of a read past the page cache. Leaves nothing behind."""
    chunk = os.urandom(CHUNK_BYTES)
    probe = folder / f".lambert-doctor-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            started = time.perf_counter()
            for _ in range(PROBE_BYTES // CHUNK_BYTES):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            write = PROBE_BYTES / (time.perf_counter() - started)
        with probe.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            while file.read(CHUNK_BYTES):
                pass
            read = PROBE_BYTES / (time.perf_counter() - started)
    finally:
        probe.unlink(missing_ok=True)
    return write, read


def examine_shards_dir(url: str) -> Finding:
    """Read the manifest and the beginning of the first shard as the trainer does: by range, behind a pipe all of it."""
    try:
        directory = ShardDirectory(url)
        manifest = directory.read_manifest()
        first = manifest.splits[TRAIN][0]
        started = time.perf_counter()
        size = len(directory.read_beginning(first, PROBE_BYTES))
        speed = size / (time.perf_counter() - started)
    except (ValueError, OSError) as error:
        return broken("shards_dir", str(error), "no training can start from it")
    shards = sum(map(len, manifest.splits.values()))
    return ok("shards_dir", f"{url}: {shards:,} shards; the first {size / 1e6:,.1f} MB at {speed / 1e6:,.0f} MB/s")
