"""launch/local.sh and launch/env.sh. With real ranks: tests/cluster/test_torchrun.py."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from tests.unit.launch.manifests import ROOT
from tests.unit.launch.stand_ins import install

LOCAL, ENV = ROOT / "launch" / "local.sh", ROOT / "launch" / "env.sh"
KEYS = ["shards_dir=my shards", "run_dir=runs/base"]


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([LOCAL, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("settings", "ranks"),
    [
        ({"DS_ACCELERATOR": "cpu"}, 1),
        ({"DS_ACCELERATOR": "cpu", "NPROC": "3"}, 3),
        ({"DS_ACCELERATOR": "cuda", "CUDA_VISIBLE_DEVICES": "0,2"}, 2),
    ],
)
def test_a_dry_run_prints_the_check_and_the_training_with_the_ranks_there_are(
    tmp_path: Path, settings: dict[str, str], ranks: int
) -> None:
    result = run(install(tmp_path / "bin") | settings, "--dry-run", *KEYS)
    check, train = (shlex.split(line)[1:] for line in result.stdout.splitlines())
    assert check == ["-m", "pretrain.check", f"world_size={ranks}", *KEYS]
    assert train[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    assert train[5:] == ["-m", "pretrain", *KEYS]
    assert not (tmp_path / "bin" / "calls").exists()


def test_it_trains_after_the_check_and_not_when_that_refuses(tmp_path: Path) -> None:
    environment = install(tmp_path / "bin") | {"NPROC": "2"}
    calls = tmp_path / "bin" / "calls"
    assert run(environment | {"CHECK_CODE": "2"}, *KEYS).returncode == 2
    assert calls.read_text() == "check world_size=2 shards_dir=my shards run_dir=runs/base\n"
    assert run(environment | {"TRAIN": "exit 7"}, *KEYS).returncode == 7
    assert calls.read_text().splitlines()[-1].startswith("torchrun --standalone --nproc-per-node 2 -m pretrain")


def test_mistakes_are_named(tmp_path: Path) -> None:
    environment = install(tmp_path / "bin")
    assert "NPROC=two: must be a number of ranks, 1 or more" in run(environment | {"NPROC": "two"}, *KEYS).stderr
    assert "launch/local.sh [--dry-run] shards_dir=DIR" in run(environment).stderr
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    result = run({key: value for key, value in environment.items() if key != "DS_ACCELERATOR"}, *KEYS)
    assert (result.returncode, "nvidia-smi lists no GPU (No devices were found)" in result.stderr) == (2, True)


def sourced(**settings: str) -> dict[str, str]:
    """Return the environment of a command after env.sh, in a shell that stops at every error."""
    script = f"set -euo pipefail; source {ENV}; env -0"
    result = subprocess.run(
        ["bash", "-c", script], env={"PATH": os.environ["PATH"]} | settings, capture_output=True, text=True, check=True
    )
    return dict(line.partition("=")[::2] for line in result.stdout.split("\0") if line)


def test_the_settings_leave_alone_what_the_user_has_set() -> None:
    defaults = sourced(DS_ACCELERATOR="cpu")
    assert defaults["OMP_NUM_THREADS"] == "1"
    assert defaults["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    shells_own = {"PWD", "SHLVL", "_", "PATH"}
    others = dict.fromkeys(defaults.keys() - shells_own, "mine")
    assert {name: value for name, value in sourced(**others).items() if name not in shells_own} == others
    assert sourced(PYTORCH_CUDA_ALLOC_CONF="old:name")["PYTORCH_ALLOC_CONF"] == "old:name"


def test_gloo_gets_the_interface_that_leads_to_the_other_nodes() -> None:
    assert "GLOO_SOCKET_IFNAME" not in sourced()
    assert sourced(PEER_HOST="127.0.0.1")["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in sourced(PEER_HOST="no.such.host.invalid")


def test_torchrun_takes_its_settings_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sourced(DS_ACCELERATOR="cpu").items():
        if name.startswith("PET_"):
            monkeypatch.setenv(name, value)
    arguments = get_args_parser().parse_args(["script.py"])
    assert arguments.max_restarts == 3
    assert "SIGUSR1" in arguments.signals_to_handle
    assert "last_call_timeout=15" in arguments.rdzv_conf
