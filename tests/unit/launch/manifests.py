"""The YAML of launch/kubernetes as plain data, what several tests look up in it, and the tools that judge files."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
KUBERNETES = ROOT / "launch" / "kubernetes"
CONTAINER = ROOT / "launch" / "container.sh"

Document = dict[str, Any]
TOOLS = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin"


def run_tool(name: str, package: str, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a tool of this environment or machine at the repository's root; skip the test where it is not installed."""
    tool = shutil.which(name, path=TOOLS)
    if tool is None:
        pytest.skip(f"{name} is not installed: {package}")
    return subprocess.run([tool, *arguments], cwd=ROOT, input=text, capture_output=True, text=True, check=False)


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def document(kind: str) -> Document:
    """The one document of its kind among all manifests."""
    (found,) = (found for path in KUBERNETES.glob("*.yaml") for found in documents(path) if found["kind"] == kind)
    return found


def job_of_runtime(runtime: Document) -> Document:
    """The spec of the Job that Trainer's JobSet makes: (pod failure policy, template)."""
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def pod_templates() -> dict[str, Document]:
    """The pod template of every kind of job."""
    return {
        "PyTorchJob": document("PyTorchJob")["spec"]["pytorchReplicaSpecs"]["Worker"]["template"],
        "TrainingRuntime": job_of_runtime(document("TrainingRuntime"))["template"],
        "Job": document("Job")["spec"]["template"],
    }


def exit_codes() -> dict[str, int]:
    """What container.sh calls its exit codes."""
    (line,) = re.findall(r"^DONE=.*$", CONTAINER.read_text(), re.MULTILINE)
    return {name: int(code) for name, code in re.findall(r"(\w+)=(\d+)", line)}


def environment(template: Document) -> dict[str, Document]:
    """The variables of a template's one container, by name."""
    (container,) = template["spec"]["containers"]
    return {variable["name"]: variable for variable in container["env"]}


def places(node: Any) -> Iterator[Document]:
    """Every mapping inside a document, the document itself first."""
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from places(child)
    elif isinstance(node, list):
        for child in node:
            yield from places(child)
