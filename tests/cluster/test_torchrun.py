"""torchrun on this machine: launch/local.sh with a rank killed, and two agents of which one is killed and replaced."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.commands import wait_for
from tests.cluster.training import HANG_SECONDS, assert_same_sequences, command, held_until_told
from tests.distributed.kills import Life
from tests.distributed.runs import lines
from tests.distributed.workers import free_port
from tests.integration.ranks import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# As launch/env.sh has it, but a lost agent is missed after 3 s.
QUICK = "join_timeout=60,last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command with the settings of launch/env.sh; it writes to tmp_path/log and ends with the test."""
    started = []

    def start(*words: str | Path, **settings: str) -> subprocess.Popen[bytes]:
        sourced = ["bash", "-c", 'source launch/env.sh && exec "$@"', "bash", *map(str, words)]
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)} | settings
        with (tmp_path / "log").open("ab") as output:
            started.append(subprocess.Popen(sourced, cwd=ROOT, env=environment, stdout=output, stderr=output))
        return started[-1]

    yield start
    for agent in started:
        if agent.poll() is None:
            for process in (*psutil.Process(agent.pid).children(recursive=True), agent):
                process.kill()
            agent.wait()


def ranks_of(agent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in psutil.Process(agent.pid).children() if "pretrain" in child.cmdline()]


def wait_for_steps(run_dir: Path, number: int, log: Path) -> None:
    life = Life(run_dir)
    wait_for(lambda: life.steps() >= number, HANG_SECONDS, log.read_text)


@pytest.mark.slow  # as on two hosts: test_hosts.py
def test_a_killed_rank_comes_back_and_no_bit_changes(start, shards, whole, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    agent = start(ROOT / "launch" / "local.sh", *command(shards, run_dir), NPROC="2")
    wait_for_steps(run_dir, 30, log)
    ranks_of(agent)[1].kill()
    assert agent.wait(HANG_SECONDS) == 0, log.read_text()
    assert lines(run_dir) == lines(whole)


def test_a_killed_agent_is_done_without_and_a_new_one_joins(start, shards, whole, tmp_path):
    run_dir, log, endpoint = tmp_path / "run", tmp_path / "log", f"127.0.0.1:{free_port()}"

    def start_agent(number: int) -> subprocess.Popen[bytes]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1"]
        torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=test", "--local-addr=127.0.0.1"]
        torchrun += [f"--rdzv-conf={QUICK},is_host={int(number == 0)}", "-m", "pretrain"]
        return start(*torchrun, *command(shards, run_dir))

    first, second = start_agent(0), start_agent(1)
    wait_for_steps(run_dir, 30, log)
    (rank,) = ranks_of(second)
    second.kill()
    rank.kill()
    second.wait()
    wait_for_steps(run_dir, 10, log)
    with held_until_told(run_dir):  # by its torchrun, when the new one has come
        third = start_agent(2)
    assert [agent.wait(HANG_SECONDS) for agent in (first, third)] == [0, 0], log.read_text()
    assert "on 1 × cpu" in log.read_text(), "one went on alone"
    assert_same_sequences(run_dir, whole)
