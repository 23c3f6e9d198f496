"""What the pods of launch/kubernetes/data_prep.yaml run. `echo` stands in for Python, and a script for Ray."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.launch.manifests import KUBERNETES

POD = {"NUM_PODS": "4", "CPUS": "16", "HEAD": "localhost", "RAY_AUTH_TOKEN": "secret", "JOB_COMPLETION_INDEX": "0"}
KEYS = ["output_dir=/data/shards", "corpus.paths=[/data/my corpus]"]


def run(folder: Path, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    ray = folder / "ray"
    ray.write_text('#!/bin/bash\necho "ray ($RAY_AUTH_MODE) $*"\n')
    ray.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": "/bin/echo"} | variables
    command = [str(KUBERNETES / "prep.sh"), *KEYS]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_first_of_several_pods_starts_ray_and_hands_the_tasks_to_all_cpus(tmp_path):
    ray, prep = run(tmp_path, POD).stdout.splitlines()
    assert ray.startswith("ray (token) start --num-cpus=16 ")
    assert "--head" in ray
    keys = "output_dir=/data/shards corpus.paths=[/data/my corpus]"
    assert prep == f"-m data_prep {keys} executor.kind=ray executor.ray.address=auto executor.workers=64"


def test_a_pod_alone_needs_no_ray(tmp_path):
    lines = run(tmp_path, {"NUM_PODS": "1", "CPUS": "16"}).stdout.splitlines()
    assert [line.partition("executor.")[2] for line in lines] == ["kind=local executor.workers=16"]


@pytest.mark.parametrize("name", sorted(POD))
def test_a_pod_that_was_not_told_what_it_needs_names_it_and_does_not_come_again(name, tmp_path):
    result = run(tmp_path, {key: value for key, value in POD.items() if key != name})
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{name} is not set" in result.stderr
