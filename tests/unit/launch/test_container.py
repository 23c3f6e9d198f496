"""What launch/container.sh starts, and what its exit code says. A real training: tests/cluster/test_container.py."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.launch.manifests import CONTAINER, exit_codes

STAND_IN = Path(__file__).with_name("stand_in.sh")
CODES = exit_codes()


def start(
    tmp_path: Path, *, python: str | Path = STAND_IN, dry_run: bool = False, **variables: object
) -> subprocess.Popen:
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)} | {k: str(v) for k, v in variables.items()}
    command = [str(CONTAINER), *(["--dry-run"] if dry_run else []), "shards_dir=shards of mine", f"run_dir={tmp_path}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def exit_code(tmp_path: Path, **variables: object) -> int:
    process = start(tmp_path, **variables)
    process.communicate(timeout=60)
    return process.returncode


def test_a_dry_run_prints_the_checks_for_the_fewest_and_the_most_ranks_and_the_training(tmp_path):
    out, _ = start(
        tmp_path, python=sys.executable, dry_run=True, PET_NNODES="1:4", PET_NPROC_PER_NODE=8, GRACE_SECONDS=300
    ).communicate(timeout=60)
    lines = [shlex.split(line) for line in out.splitlines()]
    keys = ["shards_dir=shards of mine", f"run_dir={tmp_path}"]
    check = [sys.executable, "-m", "pretrain.check", "grace_seconds=300", *keys]
    assert lines[:2] == [[*check, "world_size=8"], [*check, "world_size=32"]]
    assert ["PET_NNODES=1:4"] in lines
    assert lines[-1] == [sys.executable, "-m", "torch.distributed.run", "-m", "pretrain", *keys]


@pytest.mark.parametrize("setting", [{"PET_NNODES": "many"}, {"PET_NPROC_PER_NODE": "auto"}])
def test_a_number_of_ranks_that_cannot_be_known_is_refused_by_name(setting, tmp_path):
    process = start(tmp_path, **setting)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == CODES["REFUSED"]
    (pair,) = setting.items()
    assert "=".join(pair) in errors


@pytest.mark.parametrize(
    ("variables", "meaning"),
    [
        ({"CHECK": 2}, "REFUSED"),
        ({"CHECK": 1}, "FAILED"),  # the check itself fell over: perhaps the file system
        ({"STATE": "done"}, "DONE"),
        ({"STATE": "stopped"}, "STOPPED"),
        ({"STATE": "failed", "CODE": 1}, "FAILED"),
        ({"CODE": 1}, "FAILED"),  # no word of it: a rank was killed
        ({"STATE": "running", "CODE": 1}, "FAILED"),
        ({"STATE": "done", "CODE": 1}, "DONE"),  # torchrun exits with 1 after a signal, whatever its ranks return
        ({"STATE": "stopped", "CODE": 1}, "STOPPED"),
        ({"STATE": "stopped", "REASON": "stop_after=3"}, "DONE"),  # else it came again for ever
        ({"STATE": "failed", "REASON": "stop_after=0 is not valid", "CODE": 1}, "FAILED"),
    ],
    ids=str,
)
def test_the_exit_code_tells_whether_to_come_again(variables, meaning, tmp_path):
    assert exit_code(tmp_path, **variables) == CODES[meaning]


@pytest.mark.parametrize("state", ["done", "stopped"])
def test_the_status_of_an_earlier_start_is_not_taken_for_this_ones(state, tmp_path):
    (tmp_path / "status.json").write_text(f'{{"state": "{state}", "step": 3}}\n')
    assert exit_code(tmp_path, CODE=1) == CODES["FAILED"]


def test_a_run_that_was_done_before_is_done(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "done", "step": 3}\n')
    assert exit_code(tmp_path) == CODES["DONE"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("state", ["waits", "imports"])
def test_a_signal_reaches_the_ranks_also_those_started_anew_and_the_container_comes_again(number, state, tmp_path):
    process = start(tmp_path, STATE=state)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == CODES["STOPPED"]
    assert (tmp_path / "status.json").exists(), "the ranks saved"
