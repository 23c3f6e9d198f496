"""The host around the devices: shared memory, limits of a process, its own name, the memory allocator."""

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from pretrain.doctor.finding import Finding, broken, missing, ok, warn

SHARED_MEMORY = Path("/dev/shm")
ENOUGH_SHARED_MEMORY = 2**30
ENOUGH_OPEN_FILES = 4096
INFINIBAND = Path("/sys/class/infiniband")
TCMALLOC_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")


def examine_host() -> Iterator[Finding]:
    """Yield what this host grants a process."""
    yield examine_shared_memory(SHARED_MEMORY)
    yield examine_open_files(resource.getrlimit(resource.RLIMIT_NOFILE))
    if INFINIBAND.is_dir() and any(INFINIBAND.iterdir()):
        yield examine_locked_memory(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    yield examine_host_name(socket.gethostname())
    yield examine_allocator([Path(folder) for folder in TCMALLOC_FOLDERS])


def examine_shared_memory(folder: Path) -> Finding:
    """Say how large /dev/shm is: NCCL passes through it what GPUs cannot pass directly."""
    if not folder.is_dir():
        return broken(str(folder), "not there", "NCCL and worker processes need it: mount a tmpfs")
    size = shutil.disk_usage(folder).total
    seen = f"{size / 2**30:.1f} GiB"
    if size < ENOUGH_SHARED_MEMORY:
        cost = "NCCL may fail with several GPUs: docker run --shm-size=8g, an emptyDir of medium Memory in Kubernetes"
        return warn(str(folder), seen, cost)
    return ok(str(folder), seen)


def examine_open_files(limits: tuple[int, int]) -> Finding:
    """Say how many files a process may open; `limits` are soft and hard."""
    soft, hard = limits
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_OPEN_FILES:
        cost = f"many shards, ranks or near-duplicate signatures run into it: ulimit -n {ENOUGH_OPEN_FILES}"
        return warn("open files", f"{soft:,} (hard limit {hard:,})", cost)
    return ok("open files", "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}")


def examine_locked_memory(soft: int) -> Finding:
    """Say whether InfiniBand, which this host has, may pin memory; `soft` is the limit in bytes."""
    if soft != resource.RLIM_INFINITY:
        cost = "NCCL over InfiniBand cannot pin its buffers: ulimit -l unlimited, or IPC_LOCK for the container"
        return warn("locked memory", f"{soft:,} bytes", cost)
    return ok("locked memory", "no limit")


def examine_host_name(name: str) -> Finding:
    """Say which address the host's own name has: gloo listens there, and tells it to the other hosts."""
    cost = "several hosts: set GLOO_SOCKET_IFNAME to the interface between them (launch/env.sh does)"
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return warn("host name", f"{name} has no address", cost)
    if address.startswith("127."):
        return warn("host name", f"{name} is {address}, which other hosts cannot reach", cost)
    return ok("host name", f"{name} is {address}")


def examine_allocator(folders: list[Path]) -> Finding:
    """Say whether tcmalloc is loaded, or found where launch/env.sh looks for it."""
    if "tcmalloc" in os.environ.get("LD_PRELOAD", ""):
        return ok("tcmalloc", "loaded")
    if found := [path for folder in folders for path in folder.glob("libtcmalloc_minimal.so.4")]:
        return ok("tcmalloc", f"{found[0]}; launch/*.sh load it for training on a CPU")
    cost = "a small model on a CPU took 1.5 times as long without it; install libtcmalloc-minimal4"
    return missing("tcmalloc", "not installed", cost)
