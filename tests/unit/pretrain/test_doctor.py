"""The doctor on this machine, and on machines that lack something."""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pretrain.doctor import __main__ as doctor
from pretrain.doctor import folders, host, software
from pretrain.doctor.devices import examine_cpu, product_fault
from pretrain.doctor.finding import Verdict, broken, ok
from tests.shards import write_shards

ROOT = Path(__file__).resolve().parents[3]
NAMES = {
    "python",
    "torch",
    "packages",
    "deepspeed",
    "driver",
    "nccl",
    "apex",
    "flash-attention",
    "/dev/shm",
    "open files",
    "host name",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> list[dict[str, str]]:
    """What the command says of this machine, with a run directory to be and real shards."""
    folder = tmp_path_factory.mktemp("doctor")
    write_shards(folder / "shards")
    with redirect_stdout(io.StringIO()) as output:
        exit_code = doctor.main([f"run_dir={folder}/runs/base", f"shards_dir={folder}/shards", "--json"])
    findings: list[dict[str, str]] = json.loads(output.getvalue())
    assert exit_code == (1 if any(finding["verdict"] == "broken" for finding in findings) else 0)
    assert list(folder.iterdir()) == [folder / "shards"], "the doctor leaves nothing behind"
    return findings


def seen(report: list[dict[str, str]], name: str) -> str:
    (finding,) = (finding for finding in report if finding["name"] == name)
    return finding["seen"]


def test_this_machine_is_described_as_it_is(report):
    assert {finding["name"] for finding in report} >= {*NAMES, "run_dir", "shards_dir"}
    assert seen(report, "torch").startswith(torch.__version__)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert seen(report, "open files") == ("no limit" if most == resource.RLIM_INFINITY else f"{most:,} at most")
    assert seen(report, "deepspeed") == version("deepspeed")
    if not torch.cuda.is_available():
        assert f"{len(os.sched_getaffinity(0))} cores" in seen(report, "cpu")
    assert "4 shards" in seen(report, "shards_dir")  # three and a held-out one
    assert "MB/s" in seen(report, "run_dir")


def test_what_is_not_well_has_a_cost_and_what_is_well_has_none(report):
    assert {bool(finding["cost"]) == (finding["verdict"] != "ok") for finding in report} == {True}


def test_something_broken_ends_with_1_and_a_wrong_key_with_2(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda config: [broken("gpu", "none", "buy one")])
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert said == (
        "broken   gpu              none\n"
        "                          buy one\n"
        "no training can run here before this is mended: gpu\n"
    )
    monkeypatch.setattr(doctor, "examine", lambda config: [ok("gpu", "one")])
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("nothing is broken: a training can run here\n")
    assert doctor.main(["run_dri=x"]) == 2
    assert "Did you mean run_dir" in capsys.readouterr().err


def test_help_says_what_to_write(capsys):
    assert doctor.main(["--help"]) == 0
    assert "python -m pretrain.doctor [run_dir=DIR]" in capsys.readouterr().out


def test_a_torch_that_cannot_be_imported_is_a_finding_and_no_traceback(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(
        [sys.executable, "-m", "pretrain.doctor"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "libcudart.so.13: cannot open shared object file" in result.stdout.splitlines()[0]


def test_a_package_that_cannot_be_imported_is_broken_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "crooked.py").write_text("raise RuntimeError('no compiler')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = software.examine_import("crooked")
    assert (finding.verdict, finding.seen) == (Verdict.broken, "cannot be imported: RuntimeError: no compiler")


def test_packages_are_held_against_what_is_asked_for():
    requirements = [
        "torch>=2.0",
        "numpy<1",
        "no-such-package>=1",
        'ray>=999; extra == "ray"',
        'six; python_version < "3"',
    ]
    assert software.requirement_faults(requirements) == [
        f"numpy {version('numpy')} is not <1",
        "no-such-package is not installed",
    ]


def test_a_driver_is_named_and_a_torch_without_cuda_beside_it_is_broken(tmp_path):
    file = tmp_path / "version"
    assert software.examine_driver(file, cuda="13.0").verdict is Verdict.missing
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
    assert software.examine_driver(file, cuda="13.0").seen == "580.95.05"
    assert software.examine_driver(file, cuda=None).verdict is Verdict.broken


def test_apex_and_flash_attention_are_told_with_the_reason():
    finding = software.examine_apex("torch finds no CUDA device")
    assert (finding.verdict, finding.seen) == (Verdict.missing, "torch finds no CUDA device")
    assert software.examine_apex("").verdict is Verdict.ok


def test_a_device_computes_or_says_why_not():
    assert product_fault(torch.device("cpu"), torch.float32) == ""
    assert product_fault(torch.device("meta"), torch.float32) != ""
    assert "no bf16" in examine_cpu(False).seen


def test_little_shared_memory_is_warned_of(tmp_path, monkeypatch):
    assert host.examine_shared_memory(tmp_path / "none").verdict is Verdict.broken
    of_docker, filled_by_kills = SimpleNamespace(total=2**26, free=2**26), SimpleNamespace(total=2**34, free=2**20)
    for usage, seen in ((of_docker, "0.1 of 0.1 GiB free"), (filled_by_kills, "0.0 of 16.0 GiB free")):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, usage=usage: usage)
        finding = host.examine_shared_memory(tmp_path)
        assert (finding.verdict, finding.seen) == (Verdict.warn, seen)


@pytest.mark.parametrize(
    ("hard", "verdict"), [(1024, Verdict.warn), (65536, Verdict.ok), (resource.RLIM_INFINITY, Verdict.ok)]
)
def test_few_open_files_are_warned_of(hard, verdict):
    assert host.examine_open_files(hard).verdict is verdict


def test_limits_and_names_that_several_hosts_need():
    assert host.examine_locked_memory(65536).verdict is Verdict.warn
    assert host.examine_locked_memory(resource.RLIM_INFINITY).verdict is Verdict.ok
    assert host.examine_host_name("localhost").verdict is Verdict.warn
    assert host.examine_host_name("no-such-host.invalid").verdict is Verdict.warn
    assert host.examine_host_name("192.0.2.1").verdict is Verdict.ok


def test_the_allocator_is_looked_for_where_the_launch_scripts_do(tmp_path, monkeypatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert host.examine_allocator([tmp_path]).verdict is Verdict.missing
    (tmp_path / "libtcmalloc_minimal.so.4").touch()
    assert host.examine_allocator([tmp_path]).verdict is Verdict.ok
    launch = (ROOT / "launch" / "env.sh").read_text()
    assert "/libtcmalloc_minimal.so.4" in launch


def test_a_full_disk_is_told_and_not_filled_up(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    finding = folders.examine_run_dir(tmp_path / "run")
    assert (finding.verdict, finding.seen) == (Verdict.broken, f"{tmp_path} has 1 MB free")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_is_told_and_cleaned_up(tmp_path, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        finding = folders.examine_run_dir(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert finding.verdict is Verdict.broken
    assert os.strerror(errno.EFBIG) in finding.seen
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "measure", lambda folder: (3e6, 4e6))
    finding = folders.examine_run_dir(tmp_path)
    assert (finding.verdict, "writes 3 MB/s" in finding.seen) == (Verdict.warn, True)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_shards_that_cannot_be_read_are_broken(name, tmp_path):
    (tmp_path / "empty").mkdir()
    finding = folders.examine_shards_dir(str(tmp_path / name))
    assert finding.verdict is Verdict.broken
    assert "manifest.json" in finding.seen
