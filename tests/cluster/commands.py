"""A command that must work, and a condition that must come: for hosts and for SLURM."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def run(*command: str | Path, **environment: str) -> str:
    """Return what the command prints. Raises AssertionError with its words when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def wait_for(condition: Callable[[], object], seconds: float, explain: Callable[[], str], pause: float = 0.2) -> None:
    """Return when the condition holds. Raises AssertionError with an explanation when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(pause)
