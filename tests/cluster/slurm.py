"""A SLURM of two nodes on this machine: munged, slurmctld and two slurmd, in a folder of their own."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cluster.commands import run, wait_for
from tests.distributed.workers import free_port

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
HOSTS = Path("/etc/hosts")
START_SECONDS = 60
REQUEUE_SECONDS = 3  # a node refuses to start a job in the second in which it ended it: "credential revoked"

# proctrack/linuxproc and task/none need no cgroups. GPUs are counted only. A job of `urgent` takes the nodes of others.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=20
ReturnToService=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=1000000 Gres=gpu:8
{nodes}
PartitionName=DEFAULT Nodes=ALL OverSubscribe=NO
PartitionName=normal Default=YES PriorityTier=1 GraceTime=120
PartitionName=urgent PriorityTier=2 PreemptMode=OFF
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """SLURM's commands, on whatever cluster they reach."""

    folder: Path
    daemons: dict[str, "subprocess.Popen[bytes]"]  # by name; none when the cluster was there before the tests

    @property
    def undisturbed(self) -> list[str]:
        """Options of sbatch for a job that none of the tests' own preempts."""
        return ["--partition=urgent"] if self.daemons else []

    def submit(self, *command: str | Path, **environment: str) -> str:
        """Return the id that the command, sbatch or a script that ends with it, prints last."""
        return run(*command, **environment).split()[-1]

    def job(self, job: str) -> dict[str, str]:
        """Return what scontrol knows of a job: JobState, ExitCode, Restarts, NodeList ..."""
        fields = run("scontrol", "--oneliner", "show", "job", job).split(" ")
        return dict(field.partition("=")[::2] for field in fields)

    def wait_until(self, job: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Return what is known of a job once it is in one of these states."""
        wait_for(lambda: self.job(job)["JobState"] in states, seconds, lambda: f"job {job}: {self.job(job)}")
        return self.job(job)

    def start_now(self, job: str) -> None:
        """Wait until a job is back in the queue, and let it start; SLURM would hold it back for two minutes."""
        wait_for(lambda: self.job(job)["Reason"] == "BeginTime", 150, lambda: f"job {job}: {self.job(job)}")
        time.sleep(REQUEUE_SECONDS)
        run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def lose(self, node: str) -> None:
        """Kill a node with all that runs on it."""
        tasks = [process for process in psutil.process_iter() if _runs_on(process, node)]
        steps = {parent for task in tasks if (parent := task.parent()) and parent.name().startswith("slurmstepd")}
        for process in (psutil.Process(self.daemons[node].pid), *steps, *tasks):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons[node].wait()

    def bring_back(self, node: str) -> None:
        """Start a lost node anew and wait until jobs can run there."""
        self.daemons[node] = start_daemon(node, self.folder)
        wait_for(lambda: idle_nodes() == [*NODES], START_SECONDS, lambda: run("sinfo", "--Node", "--long"))


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that answers here, with `--basetemp` on a file system that its nodes share; else one of our own."""
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
        yield Cluster(folder=tmp_path_factory.getbasetemp(), daemons={})
        return
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a SLURM of our own needs root and {', '.join(missing or PROGRAMS)}: see .ci/install-cluster")
    with own_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@contextmanager
def own_cluster(folder: Path) -> Iterator[Cluster]:
    """Start the daemons, wait until both nodes are idle, and end them with all jobs."""
    config = write_config(folder)
    with ExitStack() as stack:
        stack.enter_context(resolvable(NODES))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("SLURM_CONF", str(config))
        cluster = Cluster(folder=folder, daemons={})
        stack.callback(lambda: [end(daemon) for daemon in reversed(cluster.daemons.values())])
        for name in ("munged", "slurmctld", *NODES):
            cluster.daemons[name] = start_daemon(name, folder)
            if name == "munged":
                wait_for((folder / "munge.socket").exists, START_SECONDS, (folder / "munged.log").read_text)
        wait_for(lambda: idle_nodes() == [*NODES], START_SECONDS, lambda: last_words(folder))
        stack.callback(end_jobs)
        yield cluster


def start_daemon(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start munged, slurmctld or the slurmd of a node in the foreground, with a log of its name."""
    munged = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munged += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
    commands = {"munged": munged, "slurmctld": ["slurmctld", "-D", "-c"]}
    with (folder / f"{name}.log").open("ab") as log:
        command = commands.get(name, ["slurmd", "-D", "-N", name])
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def idle_nodes() -> list[str]:
    """Return the nodes that wait for jobs; none while the controller does not answer."""
    command = ["sinfo", "--noheader", "--Node", "--states=idle", "--partition=normal", "--format=%N"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def last_words(folder: Path) -> str:
    """Return the ends of all logs."""
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in logs)


def write_config(folder: Path) -> Path:
    """Write slurm.conf and its neighbours, with free ports; return its path."""
    nodes = "\n".join(f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={free_port()}" for node in NODES)
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, port=free_port(), nodes=nodes))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    for number in range(8):
        (folder / f"gpu{number}").touch()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "state").mkdir()
    return config


@contextmanager
def resolvable(names: tuple[str, ...]) -> Iterator[None]:
    """Let the names of nodes lead to this machine; without, a rendezvous on one of them fails."""
    line = f"127.0.0.1 {' '.join(names)}\n"
    with HOSTS.open("a") as file:
        file.write(line)
    try:
        yield
    finally:
        HOSTS.write_text(HOSTS.read_text().replace(line, "", 1))


def end_jobs() -> None:
    """Cancel everything and wait until it is gone: what runs in a job would outlive its slurmd."""
    subprocess.run(["scancel", "--user=root"], capture_output=True, check=False)
    with suppress(AssertionError):
        wait_for(lambda: not run("squeue", "--noheader"), 30, lambda: "")


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _runs_on(process: psutil.Process, node: str) -> bool:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.environ().get("SLURMD_NODENAME") == node
    return False
