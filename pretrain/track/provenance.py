"""Where the numbers of a run come from: code, libraries, hosts and data, for the config that trackers show."""

import json
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pretrain.track.run_files import DATA_FILE

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("lambert-pretraining", "torch", "deepspeed", "numpy", "tokenizers", "transformers", "webdataset", "wandb")
GIT_SECONDS = 10.0


def describe_run(run_dir: Path, hosts: Sequence[str], device: str) -> dict[str, Any]:
    """Return what a start of a run is made of, as plain containers.

    `hosts` names each rank's host; `data` is what `RUN_DIR/data.json` holds of every phase: the manifest's
    fingerprint, its data_prep config and its statistics.
    """
    return {
        "git": own_git_state(),
        "versions": versions(),
        "hosts": ranks_by_host(hosts),
        "world_size": len(hosts),
        "device": device,
        "data": json.loads((run_dir / DATA_FILE).read_text(encoding="utf-8")),
    }


@cache
def own_git_state() -> dict[str, Any] | None:
    """Return the state of the code that this process runs; git is asked once."""
    return git_state(ROOT)


def git_state(root: Path) -> dict[str, Any] | None:
    """Return the `commit` that this code stands at, and whether tracked files differ from it (`dirty`).

    None where git does not know these files: installed code, also inside another repository, or no git.
    """
    try:
        _git(root, "ls-files", "--error-unmatch", "pretrain/__main__.py")
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Return the versions of Python, CUDA and the libraries that decide what is computed; None where there is none."""
    found: dict[str, str | None] = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def ranks_by_host(hosts: Sequence[str]) -> dict[str, str]:
    """Return `{"node1": "0-7", "node2": "8-15"}` for the host of each rank, in the order of ranks."""
    ranks: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        ranks.setdefault(host, []).append(rank)
    return {host: _ranges(numbers) for host, numbers in ranks.items()}


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as `0-3,8`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
