"""The software: versions against what pyproject.toml asks for, CUDA and NCCL behind torch, and the fused kernels."""

import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from pretrain.doctor.finding import INSTALL, Finding, broken, missing, ok, warn
from pretrain.model.attention import has_flash_attention
from pretrain.model.kernels import why_no_apex

DISTRIBUTION = "lambert-pretraining"
IMPORT_SECONDS = 120
DRIVER = Path("/proc/driver/nvidia/version")


def examine_software() -> Iterator[Finding]:
    """Yield what is installed. Only torch is imported here: a package that cannot be must not end the report."""
    yield ok("python", platform.python_version())
    yield ok("torch", f"{torch.__version__}, {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'}")
    yield examine_packages()
    yield examine_import("deepspeed")
    yield examine_driver(DRIVER, cuda=torch.version.cuda)
    yield examine_nccl()
    yield examine_apex(why_no_apex())
    yield examine_flash_attention()


def examine_packages() -> Finding:
    """Hold every installed version against what the project asks for."""
    try:
        faults = requirement_faults(requires(DISTRIBUTION) or [])
    except PackageNotFoundError:
        return warn("packages", f"{DISTRIBUTION} is not installed", f"versions are not checked: {INSTALL}")
    if faults:
        return broken("packages", ", ".join(faults), INSTALL)
    return ok("packages", "as pyproject.toml asks")


def requirement_faults(requirements: Sequence[str]) -> list[str]:
    """Return what is missing or of another version, of requirements in the words of pyproject.toml; no extras."""
    faults = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            faults.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            faults.append(f"{requirement.name} {found} is not {requirement.specifier}")
    return faults


def examine_import(name: str) -> Finding:
    """Import a package in a process of its own, which may crash, and say its version."""
    command = [sys.executable, "-c", f"import {name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return broken(name, f"its import does not end within {IMPORT_SECONDS} s", "no training can start")
    if done.returncode:
        why = (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
        return broken(name, f"cannot be imported: {why}", "no training can start")
    return ok(name, version(name))


def examine_driver(path: Path, *, cuda: str | None) -> Finding:
    """Say which NVIDIA driver is loaded, and whether torch can use one."""
    if not path.is_file():
        return missing("driver", "no NVIDIA driver", "training runs on the CPU")
    found = re.search(r"\d{3,}\.[\d.]+", path.read_text(encoding="utf-8"))
    driver = found[0] if found else "of unknown version"
    if cuda is None:
        return broken("driver", driver, "this torch has no CUDA; install one that has")
    return ok("driver", driver)


def examine_nccl() -> Finding:
    """Say which NCCL torch carries."""
    if not torch.distributed.is_nccl_available():
        cost = "GPUs cannot talk to each other" if torch.version.cuda else "not needed on the CPU, where gloo serves"
        return (broken if torch.version.cuda else missing)("nccl", "not built into torch", cost)
    return ok("nccl", ".".join(map(str, torch.cuda.nccl.version())))


def examine_apex(why_not: str) -> Finding:
    """Say whether kernels=auto takes apex's norms; `why_not` is the reason against, or nothing."""
    if why_not:
        return missing("apex", why_not, "layer norms and the norms of LAMB are torch's own")
    return ok("apex", "fused layer norms and multi-tensor norms")


def examine_flash_attention() -> Finding:
    """Say whether attention pads."""
    if not has_flash_attention():
        cost = "on a GPU attention runs in padded groups of like lengths, several launches a layer"
        return missing("flash-attention", "flash-attn is not installed", cost)
    return ok("flash-attention", version("flash-attn"))
