"""launch/hosts.sh on two hosts: over ssh and pdsh, with a rank killed, told to leave, a link cut."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.commands import wait_for
from tests.cluster.hosts import Host, Hosts
from tests.cluster.training import HANG_SECONDS, assert_same_sequences, command, held_until_told, status
from tests.distributed.kills import Life
from tests.distributed.runs import lines
from tests.integration.ranks import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def what_the_hosts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, value in (("PYTHON", sys.executable), ("PYTHONPATH", str(ROOT))):
        monkeypatch.setenv(name, value)


class Launch:
    """One call of launch/hosts.sh on one rank per host, and what came of it."""

    def __init__(self, hosts: Hosts, shards: Path, run_dir: Path, **settings: str) -> None:
        self._run_dir, self._log = run_dir, run_dir.parent / "launcher.log"
        hostfile = run_dir.parent / "hostfile"
        hostfile.write_text("node-1 slots=1\nnode-2 slots=1  # one rank each\n")
        script = [ROOT / "launch" / "hosts.sh", hostfile, *command(shards, run_dir)]
        self.process: subprocess.Popen[bytes] = hosts.start(*script, log=self._log, **settings)

    def output(self) -> str:
        return self._log.read_text()

    def wait_for_steps(self, number: int) -> None:
        """Return once so many more steps were logged."""
        life, ended = Life(self._run_dir), self.process.poll
        wait_for(lambda: ended() is not None or life.steps() >= number, HANG_SECONDS, self.output)
        assert ended() is None, self.output()

    def end(self) -> int:
        """Return the exit code."""
        try:
            return self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it hangs: {self.output()}") from None


@pytest.fixture
def pair(hosts: Hosts) -> list[Host]:
    """Both hosts, connected and idle."""
    pair = list(hosts.hosts.values())
    assert [host.ranks() for host in pair] == [[], []]
    return pair


def test_a_killed_rank_comes_back_and_a_run_that_is_told_to_leave_goes_on_by_the_same_command(
    hosts, pair, shards, whole, tmp_path
):
    run_dir = tmp_path / "run"
    launch = Launch(hosts, shards, run_dir)
    launch.wait_for_steps(30)
    (victim,) = pair[1].ranks()
    victim.kill()
    launch.wait_for_steps(5)

    with held_until_told(run_dir):
        launch.process.send_signal(signal.SIGTERM)
    assert launch.end() == 1, launch.output()
    assert (status(run_dir)["state"], status(run_dir)["reason"]) == ("stopped", "SIGTERM")
    assert [host.agents() for host in pair] == [[], []]
    assert "node-2: " in launch.output(), "each line says where it comes from"
    assert not list(run_dir.glob("launch-*")), "the environment with its keys"

    launch = Launch(hosts, shards, run_dir, LAUNCHER="pdsh")
    assert launch.end() == 0, launch.output()
    assert lines(run_dir) == lines(whole)


def test_a_cut_link_ends_the_job_everywhere_and_the_same_command_goes_on(hosts, pair, shards, whole, tmp_path):
    launch = Launch(hosts, shards, tmp_path / "run")
    launch.wait_for_steps(30)
    pair[1].cut()
    try:
        assert launch.end() == 1, launch.output()
        assert "host node-2: ended with exit code 255" in launch.output()
        assert "host node-2: cannot be reached" in launch.output()
        assert pair[0].ranks() == pair[0].agents() == []
        again = Launch(hosts, shards, tmp_path / "run")
        assert again.end() == 2, again.output()
        assert "error: host node-2 (" in again.output(), "who is out of reach is named before anything starts"
        wait_for(lambda: not pair[1].ranks(), HANG_SECONDS, lambda: "ranks of the lost host wait for ever")
    finally:
        pair[1].mend()
    launch = Launch(hosts, shards, tmp_path / "run")
    assert launch.end() == 0, launch.output()
    assert lines(tmp_path / "run") == lines(whole)


@pytest.mark.slow
def test_with_min_hosts_the_others_go_on_without_a_host_whose_torchrun_was_killed(hosts, pair, shards, whole, tmp_path):
    quick = "join_timeout=60,last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"
    launch = Launch(hosts, shards, tmp_path / "run", MIN_HOSTS="1", PET_RDZV_CONF=quick)
    launch.wait_for_steps(30)
    (agent,) = pair[1].agents()
    agent.kill()
    assert launch.end() == 0, launch.output()
    assert "host node-2: ended with exit code" in launch.output()
    assert pair[1].ranks() == [], "its rank would have trained on, and the others with it"
    assert_same_sequences(tmp_path / "run", whole)


def test_a_host_that_does_not_share_the_files_or_has_the_port_in_use_is_named(hosts, pair, shards, tmp_path):
    (tmp_path / "run").mkdir()
    subprocess.run(pair[1].inside("mount", "-t", "tmpfs", "tmpfs", tmp_path / "run"), check=True)
    try:
        launch = Launch(hosts, shards, tmp_path / "run")
        assert launch.end() == 2, launch.output()
        assert "error: host node-2 (" in launch.output()
        assert "run_dir must be on a file system that all hosts share" in launch.output()
    finally:
        subprocess.run(pair[1].inside("umount", tmp_path / "run"), check=True)
    listen = "import socket; server = socket.create_server(('', 29400)); print('listens', flush=True); server.accept()"
    with subprocess.Popen(pair[0].inside(sys.executable, "-c", listen), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"listens\n"
        launch = Launch(hosts, shards, tmp_path / "run")
        assert launch.end() == 2, launch.output()
        server.kill()
    assert "error: MASTER_PORT=29400 is in use on node-1; MASTER_PORT=" in launch.output()
