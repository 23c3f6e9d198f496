"""What the documents tell a newcomer to type exists and composes; what they claim has a test."""

import re
import shlex
from pathlib import Path

import pytest

from conf.compose import compose
from data_prep.config import DataPrepConfig
from pretrain.config import PretrainConfig
from pretrain.export import ExportConfig

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "docker" / "README.md",
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCHEMAS = {"data_prep": DataPrepConfig, "pretrain": PretrainConfig, "pretrain.export": ExportConfig}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_names_a_module_and_keys_that_exist(command):
    words = shlex.split(command)
    module = words[words.index("-m") + 1]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    if module in SCHEMAS:
        compose(module.rpartition(".")[2], SCHEMAS[module], [word for word in words if "=" in word])


def test_the_readme_shows_the_commands_it_promises():
    modules = {shlex.split(command)[shlex.split(command).index("-m") + 1] for command in commands()}
    assert {"data_prep", "data_prep.audit", "data_prep.show", "pretrain", "pretrain.export"} <= modules


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_paths_and_make_targets_in_the_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:benchmarks|conf|data_prep|docs|launch|pretrain|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"^ {4}make (\w+)|`make (\w+)`", text, flags=re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, flags=re.MULTILINE), target
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")), name
