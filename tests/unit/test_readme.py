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
    ROOT / "README.zh.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "docker" / "README.md",
    ROOT / "launch" / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE_BLOCK = re.compile(r"^```.*?^```\n|(?:^ {4}[^\n]*\n)+", flags=re.DOTALL | re.MULTILINE)
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


def anchors(document: Path) -> set[str]:
    """Return what links into a document may end with, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", document.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_paths_and_make_targets_in_the_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        target = document.parent / link if link else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"
    for path in re.findall(r"`((?:benchmarks|conf|data_prep|docs|launch|pretrain|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"^ {4}make (\w+)|`make (\w+)`", text, flags=re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, flags=re.MULTILINE), target
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")), name


def outline(text: str) -> dict[str, object]:
    """Return what every language says alike: code blocks, and of each section its shape, links, keys and paths."""
    sections = re.split(r"^(?=#+ )", CODE_BLOCK.sub("", text), flags=re.MULTILINE)[1:]
    return {
        "code blocks": CODE_BLOCK.findall(text),
        "sections": [
            {
                "level": section.index(" "),
                "paragraphs": len(re.split(r"\n\n+", section.strip())),
                "list items": len(re.findall(r"^- ", section, flags=re.MULTILINE)),
                "table rows": len(re.findall(r"^\|", section, flags=re.MULTILINE)),
                "links": sorted(re.findall(r"\]\(([^)]+)\)", section)),
                "code": sorted(re.findall(r"`([^`\n]+)`", section)),
            }
            for section in sections
        ],
    }


def test_the_readmes_are_in_step_and_link_to_each_other():
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
    assert english.startswith("[中文](README.zh.md)\n")
    assert chinese.startswith("[English](README.md)\n")
    assert outline(chinese) == outline(english)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("executor.workers=16", "executor.workers=8"),
        ("    make quickstart", "    make quickstarts"),
        ("step 1200/1200", "step 1199/1200"),
        (r"G --> H\[streams\]", "G --> H"),
        (r"(?s)(```bash.*?```\n)(.*?)(```bash.*?```\n)", r"\3\2\1"),
        (r"\(docs/models.md\)", "(docs/design.md)"),
        ("`engine.zero_stage=", "`zero_stage="),
        (r"\| `metrics.jsonl` .*\n", ""),
        (r"- \*\*.*\n", ""),
        ("\n## ", "\n### "),
        (r"\n\nApache-2.0\.", ""),
    ],
)
def test_a_readme_that_is_out_of_step_is_noticed(pattern, replacement):
    chinese = (ROOT / "README.zh.md").read_text(encoding="utf-8")
    changed, count = re.subn(pattern, replacement, chinese, count=1)
    assert count == 1
    assert outline(changed) != outline(chinese)
