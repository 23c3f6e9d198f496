"""Hosts on this machine, each with a network, process ids, a name, mounts and an sshd of its own; they share files."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cluster.commands import run, wait_for

NAMES = ("node-1", "node-2")
SUBNET = "10.213.77"
SSHD = "/usr/sbin/sshd"
PROGRAMS = ("ip", "unshare", "nsenter", "ssh", "ssh-keygen", "pdsh", SSHD)

SSHD_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
UseDNS no
PidFile none
"""
# As in launch/env.sh, but a host that falls silent is given up within 6 s.
SSH_OPTIONS = (
    "-F none -i {folder}/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
    "-o LogLevel=ERROR -o ConnectTimeout=5 -o ServerAliveInterval=2 -o ServerAliveCountMax=2"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One of them, seen from outside."""

    name: str
    network: str  # the hosts' common bridge is there
    link: str
    namespaces: "subprocess.Popen[bytes]"

    def ranks(self) -> list[psutil.Process]:
        """Return the training processes."""
        return self._pythons("-u", "-m", "pretrain")

    def agents(self) -> list[psutil.Process]:
        """Return torchrun's processes."""
        return self._pythons("-m", "torch.distributed.run")

    def cut(self) -> None:
        """Let nothing through to the host and back, without a word to anyone."""
        run("ip", "-n", self.network, "link", "set", self.link, "down")

    def mend(self) -> None:
        run("ip", "-n", self.network, "link", "set", self.link, "up")

    def inside(self, *command: str | Path) -> list[str]:
        """Return a command that runs another one inside the host."""
        first = psutil.Process(self.namespaces.pid).children()[0].pid
        return ["nsenter", f"--target={first}", "--all", *map(str, command)]

    def _pythons(self, *words: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.namespaces.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[1 : 1 + len(words)] == [*words]:
                    found.append(process)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Two hosts, and a network from which they can be reached by name."""

    folder: Path
    network: str
    hosts: dict[str, Host]

    def start(self, *command: str | Path, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a command where an administrator would sit; what it prints goes to `log`."""
        there = ["ip", "netns", "exec", self.network, "unshare", "--mount", "sh", "-c", _naming(self.folder / "names")]
        options = {"SSH_OPTIONS": SSH_OPTIONS.format(folder=self.folder)}
        with log.open("ab") as output:
            return subprocess.Popen(
                [*there, "sh", *map(str, command)],
                stdout=output,
                stderr=output,
                env=os.environ | options | environment,
                start_new_session=True,
            )


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts that end with the tests, and nothing that runs there outlives them."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"hosts of our own need root and {', '.join(missing or PROGRAMS)}: see .ci/install-cluster")
    folder, network = tmp_path_factory.mktemp("hosts"), f"hosts{os.getpid()}"
    write_ssh_files(folder)
    addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(NAMES, start=1)}
    with ExitStack() as stack:
        make_namespace(stack, network)
        run("ip", "-n", network, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", network, "address", "add", f"{SUBNET}.254/24", "dev", "bridge")
        run("ip", "-n", network, "link", "set", "bridge", "up")
        write_names(folder / "names", addresses)
        made = {name: make_host(stack, folder, network, name, addresses) for name in NAMES}
        yield Hosts(folder=folder, network=network, hosts=made)


def write_ssh_files(folder: Path) -> None:
    """Write a throwaway key for the user, one for the hosts, and sshd's configuration."""
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd asks for it


def write_names(path: Path, addresses: dict[str, str], own: str | None = None) -> None:
    """Write an /etc/hosts. As Debian does it, a host's own name leads to an address that no other host can reach."""
    lines = ["127.0.0.1 localhost", *([f"127.0.1.1 {own}"] if own else [])]
    path.write_text("".join(f"{line}\n" for line in [*lines, *(f"{at} {name}" for name, at in addresses.items())]))


def make_namespace(stack: ExitStack, name: str) -> None:
    run("ip", "netns", "add", name)
    stack.callback(run, "ip", "netns", "delete", name)
    run("ip", "-n", name, "link", "set", "lo", "up")


def make_host(stack: ExitStack, folder: Path, network: str, name: str, addresses: dict[str, str]) -> Host:
    """Start a host and connect it to the bridge."""
    namespace, link = f"{network}-{name}", f"to-{name}"
    make_namespace(stack, namespace)
    run("ip", "link", "add", link, "netns", network, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    run("ip", "-n", network, "link", "set", link, "master", "bridge", "up")
    run("ip", "-n", namespace, "address", "add", f"{addresses[name]}/24", "dev", "eth0")
    run("ip", "-n", namespace, "link", "set", "eth0", "up")
    names = folder / f"names-{name}"
    write_names(names, addresses, own=name)
    # What runs in the host dies with unshare, whatever it is.
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "--mount"]
    shell = ["sh", "-c", f"hostname {name}; {_naming(names)}", "sh"]
    sshd = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    log = folder / f"sshd-{name}.log"
    with log.open("wb") as output:
        command = ["ip", "netns", "exec", namespace, *own, *shell, *sshd]
        namespaces = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    stack.callback(namespaces.wait)
    stack.callback(namespaces.kill)
    wait_for(lambda: "Server listening" in log.read_text(), 30, log.read_text)
    return Host(name=name, network=network, link=link, namespaces=namespaces)


def _naming(names: Path) -> str:
    """Return a shell script that runs its arguments where /etc/hosts is the file `names`."""
    return f'mount --bind {names} /etc/hosts && exec "$@"'
