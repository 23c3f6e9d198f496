"""launch/container.sh as two nodes of one training: one is told to go, both leave and come again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.commands import wait_for
from tests.cluster.training import HANG_SECONDS, command
from tests.distributed.kills import Life
from tests.distributed.runs import lines
from tests.distributed.workers import free_port
from tests.integration.ranks import ROOT
from tests.unit.launch.manifests import CONTAINER, exit_codes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def start_nodes(shards: Path, run_dir: Path, log: Path) -> "list[subprocess.Popen[bytes]]":
    """Start two containers as Kubeflow would: torchrun is told of the nodes by variables."""
    told = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"127.0.0.1:{free_port()}",
        "PET_RDZV_ID": "test",
        "PET_LOCAL_ADDR": "127.0.0.1",
        "GRACE_SECONDS": "300",
    }
    nodes = []
    for number in range(2):
        own = {"PET_RDZV_CONF": f"join_timeout=120,is_host={int(number == 0)}"}
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)} | told | own
        with log.open("ab") as output:
            nodes.append(
                subprocess.Popen(
                    [str(CONTAINER), *command(shards, run_dir)], env=environment, stdout=output, stderr=output
                )
            )
    return nodes


def end(nodes: "list[subprocess.Popen[bytes]]") -> list[int]:
    try:
        return [node.wait(HANG_SECONDS) for node in nodes]
    finally:
        for node in nodes:
            if node.poll() is None:
                node.terminate()


@pytest.mark.slow
def test_a_pod_that_must_go_takes_the_run_with_it_and_no_bit_changes(shards, whole, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    nodes = start_nodes(shards, run_dir, log)
    life = Life(run_dir)
    wait_for(lambda: life.steps() >= 30, HANG_SECONDS, log.read_text)
    nodes[1].send_signal(signal.SIGTERM)
    assert end(nodes) == [exit_codes()["STOPPED"]] * 2, log.read_text()
    assert end(start_nodes(shards, run_dir, log)) == [exit_codes()["DONE"]] * 2, log.read_text()
    assert lines(run_dir) == lines(whole)


@pytest.mark.slow  # tests/unit/launch/test_container.py knows that exit code, too
def test_a_refused_command_ends_every_pod_before_the_rendezvous(shards, tmp_path):
    log = tmp_path / "log"
    assert end(start_nodes(shards / "none", tmp_path / "run", log)) == [exit_codes()["REFUSED"]] * 2
    assert "manifest.json" in log.read_text()
