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
CONNECTIONS = 4  # of a rank to each other one, by gloo: in torch's default group and in three of ours
INFINIBAND = Path("/sys/class/infiniband")
TCMALLOC_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")


def examine_host() -> Iterator[Finding]:
    """Yield what this host grants a process."""
    yield examine_shared_memory(SHARED_MEMORY)
    yield examine_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if INFINIBAND.is_dir() and any(INFINIBAND.iterdir()):
        yield examine_locked_memory(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    yield examine_host_name(socket.gethostname())
    yield examine_allocator([Path(folder) for folder in TCMALLOC_FOLDERS])


def examine_shared_memory(folder: Path) -> Finding:
    """Say what /dev/shm has free: NCCL passes through it what GPUs cannot pass directly."""
    if not folder.is_dir():
        return broken(str(folder), "not there", "NCCL and worker processes need it: mount a tmpfs")
    usage = shutil.disk_usage(folder)
    seen = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free"
    if usage.free < ENOUGH_SHARED_MEMORY:
        cost = "NCCL may fail with several GPUs: remove what killed jobs left there; docker run --shm-size=8g, an "
        return warn(str(folder), seen, cost + "emptyDir of medium Memory in Kubernetes")
    return ok(str(folder), seen)


def examine_open_files(hard: int) -> Finding:
    """Say how many files a rank may open: connections too. Each raises its own limit as far as the hard one."""
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_OPEN_FILES:
        cost = f"too few for {hard // CONNECTIONS:,} ranks, each connected with each: raise the hard limit (ulimit -Hn)"
        return warn("open files", f"{hard:,} at most", cost)
    return ok("open files", "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,} at most")


def examine_locked_memory(soft: int) -> Finding:
    """Say whether InfiniBand, which this host has, may pin memory; `soft` is the limit in bytes."""
    if soft != resource.RLIM_INFINITY:
        cost = "NCCL over InfiniBand cannot pin its buffers: ulimit -l unlimited, or IPC_LOCK for the container"
        return warn("locked memory", f"{soft:,} bytes", cost)
    return ok("locked memory", "no limit")


def examine_host_name(name: str) -> Finding:
    """Say which address the host's own name has: gloo listens there, and tells it to the other hosts."""
    cost = "with several hosts, set GLOO_SOCKET_IFNAME to the interface between them (launch/env.sh does)"
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
    cost = "small models on a CPU are slower without it; install libtcmalloc-minimal4"
    return missing("tcmalloc", "not installed", cost)
