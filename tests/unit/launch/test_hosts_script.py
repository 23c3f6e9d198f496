"""launch/hosts.sh: what it starts, what it refuses, how it ends. On real hosts: tests/cluster/test_hosts.py."""

import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.distributed.workers import free_port
from tests.unit.launch.manifests import ROOT
from tests.unit.launch.stand_ins import install

HOSTS = ROOT / "launch" / "hosts.sh"
PAIR = "node-1 slots=2\n# a comment\n\nnode-2   slots=1 # and another\n"


class Scene:
    """A hostfile, a run directory and the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.environment = install(folder / "bin") | {"MASTER_PORT": str(self.port)}
        self.hostfile, self.run_dir = folder / "hostfile", folder / "run"
        self._calls = folder / "bin" / "calls"

    def command(self, hostfile: str, *options: str) -> list[str]:
        self.hostfile.write_text(hostfile)
        return [str(HOSTS), *options, str(self.hostfile), "shards_dir=my shards", f"run_dir={self.run_dir}"]

    def run(self, *options: str, hostfile: str = PAIR, **settings: str) -> "subprocess.CompletedProcess[str]":
        command, environment = self.command(hostfile, *options), self.environment | settings
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def trained(self) -> list[str]:
        return sorted(call for call in self.calls() if call.startswith("torchrun"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_dry_run_prints_the_check_and_each_hosts_command_and_touches_nothing(scene: Scene) -> None:
    result = scene.run("--dry-run", hostfile="gone-1 slots=8\ngone-2 slots=8\n", MASTER_PORT="1234", MIN_HOSTS="1")
    assert result.returncode == 0, result.stderr
    check, first, second = (shlex.split(line) for line in result.stdout.splitlines())
    assert check[1:4] == ["-m", "pretrain.check", "world_size=16"]
    assert check[4:] == first[-2:] == second[-2:] == ["shards_dir=my shards", f"run_dir={scene.run_dir}"]
    assert first[:3] == ["gone-1,", "by", "ssh:"]
    assert first[first.index("--nnodes") + 1] == "1:2"
    assert first[first.index("--rdzv-endpoint") + 1] == second[second.index("--rdzv-endpoint") + 1] == "gone-1:1234"
    assert [words[words.index("--rdzv-conf") + 1][-10:] for words in (first, second)] == [",is_host=1", ",is_host=0"]
    assert not scene.calls()
    assert not scene.run_dir.exists()


@pytest.mark.parametrize(
    ("hostfile", "message"),
    [
        ("node-1 slots=2\nnode-2\n", "line 2: 'node-2' is not of the form HOST slots=RANKS"),
        ("node-1 slots=0\n", "line 1: 'node-1 slots=0' is not of the form"),
        ("node-1 slots=2 gpus=2\n", "line 1: 'node-1 slots=2 gpus=2' is not of the form"),
        ("$(reboot) slots=2\n", "line 1: '$(reboot) slots=2' is not of the form"),
        ("-oProxyCommand slots=2\n", "line 1: '-oProxyCommand slots=2' is not of the form"),
        ("node-1 slots=2\n\nnode-1 slots=2", "line 3: node-1 is there twice"),
        ("# none\n", "names no host"),
    ],
)
def test_a_hostfile_that_cannot_be_read_is_named_by_line(scene: Scene, hostfile: str, message: str) -> None:
    result = scene.run(hostfile=hostfile)
    assert result.returncode == 2
    assert f"error: {scene.hostfile}" in result.stderr
    assert message in result.stderr
    assert not scene.run_dir.exists()


def test_other_mistakes_are_named_with_their_remedy(scene: Scene) -> None:
    assert "LAUNCHER=rsh: must be ssh or pdsh" in scene.run(LAUNCHER="rsh").stderr
    assert "MIN_HOSTS=3: not 1 to 2" in scene.run(MIN_HOSTS="3").stderr
    assert "MIN_HOSTS=all: not 1 to 2" in scene.run(MIN_HOSTS="all").stderr
    command = scene.command(PAIR)
    for arguments, message in (
        ([*command[:2], "shards_dir=x"], "run_dir is missing"),
        ([command[0], "nowhere", "run_dir=x"], "nowhere: no such hostfile"),
        ([command[0], "run_dir=x"], "launch/hosts.sh [--dry-run] HOSTFILE"),
    ):
        result = subprocess.run(arguments, env=scene.environment, capture_output=True, text=True, check=False)
        assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def test_all_hosts_out_of_reach_are_named_before_anything_starts(scene: Scene) -> None:
    result = scene.run(hostfile="gone-1 slots=1\nnode-1 slots=1\ngone-2 slots=1\n")
    assert result.returncode == 2
    for line, host in ((1, "gone-1"), (3, "gone-2")):
        assert f"error: host {host} ({scene.hostfile}, line {line}): ssh: connect to host {host}" in result.stderr
    assert "1 hosts can train, but MIN_HOSTS=3; nothing was started" in result.stderr
    assert not scene.calls()
    assert not list(scene.run_dir.iterdir()), "the environment with its keys"


def test_with_min_hosts_it_starts_without_those_out_of_reach(scene: Scene) -> None:
    result = scene.run(hostfile="gone-1 slots=8\nnode-1 slots=2\nnode-2 slots=3\n", MIN_HOSTS="2")
    assert result.returncode == 0, result.stderr
    assert scene.calls()[0].startswith("check world_size=5 ")
    first, second = scene.trained()
    assert "--nnodes 2:2 --nproc-per-node 2 --local-addr node-1" in first
    assert "--nproc-per-node 3 --local-addr node-2" in second
    assert f"--rdzv-endpoint node-1:{scene.port}" in first


def test_it_stops_where_the_check_refuses(scene: Scene) -> None:
    assert scene.run(CHECK_CODE="2").returncode == 2
    assert len(scene.calls()) == 1


def test_a_port_in_use_is_named_with_one_that_is_free(scene: Scene) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        result = scene.run(MASTER_PORT=str(port))
    assert result.returncode == 2
    assert f"error: MASTER_PORT={port} is in use on node-1; MASTER_PORT=" in result.stderr
    assert not scene.calls()


def test_checks_of_two_names_of_one_machine_do_not_take_the_port_from_each_other(scene: Scene, tmp_path: Path) -> None:
    slow_clock = (
        "import time\nnow = time.time\ntime.time = lambda: time.sleep(1) or now()\n"  # asked for beside the port
    )
    (tmp_path / "sitecustomize.py").write_text(slow_clock)
    result = scene.run(PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr


def test_a_host_with_another_time_is_named(scene: Scene) -> None:
    ssh = Path(scene.environment["PATH"].partition(":")[0]) / "ssh"
    late = (
        f"if [[ $1 == node-2 && $2 == *' check '* ]]; then echo $(($(date +%s) - 90)) {scene.port}; exit; fi\nexec bash"
    )
    ssh.write_text(ssh.read_text().replace("exec bash", late))
    result = scene.run()
    assert result.returncode == 2
    assert f"error: host node-2 ({scene.hostfile}, line 4): its clock is -9" in result.stderr
    assert not scene.trained()


def test_a_host_that_still_trains_into_the_run_directory_is_named_but_a_torchrun_without_ranks_is_ended(
    scene: Scene,
) -> None:
    marked = scene.environment | {"LAMBERT_RUN_DIR": str(scene.run_dir)}
    with subprocess.Popen(["sleep", "60"], env=marked | {"RANK": "0"}) as rank:
        result = scene.run()
        rank.kill()
    assert result.returncode == 2
    assert f"still trains into {scene.run_dir} (processes {rank.pid})" in result.stderr
    with subprocess.Popen(["sleep", "60"], env=marked) as torchrun:
        assert scene.run().returncode == 0
        assert torchrun.wait() == -signal.SIGKILL


def test_the_environment_and_the_folder_are_those_of_the_launcher(scene: Scene, tmp_path: Path) -> None:
    mine = 'two lines,\n"quotes" and $(a trap)'
    record = f'printf "%s|%s|%s" "$MINE" "$PWD" "$PET_MAX_RESTARTS" >"{tmp_path}/$HOST"'
    result = scene.run(TRAIN=record, MINE=mine, PET_MAX_RESTARTS="7")
    assert result.returncode == 0, result.stderr
    for host in ("node-1", "node-2"):
        assert (tmp_path / host).read_text() == f"{mine}|{ROOT}|7"


def test_when_a_host_fails_the_others_are_ended(scene: Scene) -> None:
    began = time.monotonic()
    result = scene.run(TRAIN="if [[ $HOST == node-2 ]]; then echo broken; exit 3; fi; sleep 300")
    assert result.returncode == 1
    assert time.monotonic() - began < 200, "it waited for the others"
    assert "node-2: broken" in result.stdout
    assert "host node-2: ended with exit code 3" in result.stderr
    assert not list(scene.run_dir.iterdir())


def test_hosts_that_fail_are_no_failure_where_enough_are_left(scene: Scene) -> None:
    train = "if [[ $HOST == node-2 ]]; then sleep 0.2; else exit 3; fi"
    assert scene.run(TRAIN=train).returncode == 0, "node-2 had finished"
    train = "if [[ $HOST == node-2 ]]; then sleep 2; else exit 3; fi"
    assert scene.run(TRAIN=train, MIN_HOSTS="1").returncode == 0, "node-2 was enough"


def test_what_a_killed_torchrun_leaves_behind_is_ended(scene: Scene) -> None:
    result = scene.run(TRAIN="sleep 300 & kill -KILL $$")
    assert result.returncode == 1
    assert "host node-1: ended with exit code 137" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_has_every_torchrun_told_to_stop(scene: Scene, tmp_path: Path, number: signal.Signals) -> None:
    train = f'trap "echo told; exit 1" TERM; touch "{tmp_path}/ready-$HOST"; sleep 300 & wait'
    command, environment = scene.command(PAIR), scene.environment | {"TRAIN": train}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert sorted(output.splitlines()) == ["node-1: told", "node-2: told"]


def test_a_signal_that_comes_before_torchrun_has_started_is_not_lost(scene: Scene, tmp_path: Path) -> None:
    ssh = Path(scene.environment["PATH"].partition(":")[0]) / "ssh"
    slow = f"if [[ $2 == *' run '* ]]; then touch {tmp_path}/starts; sleep 2; fi\nexec bash"
    ssh.write_text(ssh.read_text().replace("exec bash", slow))
    command, environment = scene.command(PAIR), scene.environment | {"TRAIN": "exec sleep 300"}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "starts").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 1
