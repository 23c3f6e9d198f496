"""Fixtures that every kind of test shares."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.slurm_stand_in import install

# A busy machine may take any time for an example.
settings.register_profile("lambert", deadline=None)
settings.load_profile("lambert")


def pytest_configure() -> None:
    """Let processes that tests start end on Ctrl-C, also where a shell without job control started pytest with `&`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout; a test that asks for it is skipped where it is not."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real corpora beside this checkout ({folder.name}/ is absent)")
    return folder


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stand-in for SLURM, its commands first on PATH; its tasks find this repository's tests."""
    from data_prep.executors import slurm_executor  # a second of imports that most tests do not need

    folder = install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.setattr(slurm_executor, "QUEUE_SECONDS", 0.3)
    monkeypatch.setattr(slurm_executor, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(slurm_executor.SlurmExecutor, "follow_seconds", 0.1)
    return folder


START_RAY = """
import ray, sys
context = ray.init(address="local", num_cpus=2, object_store_memory=10**8, include_dashboard=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of a Ray cluster with two CPUs on this machine."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    os.environ["RAY_AUTH_MODE"] = "token"  # read when ray is imported
    for _ in range(3):  # on a busy machine Ray may miss its own limit of 30 s
        process = subprocess.Popen(
            [sys.executable, "-c", START_RAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if address := process.stdout.readline().strip():
            break
    assert address, "Ray does not start"
    yield address
    process.stdin.close()
    process.wait(60)
