import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pretrain.track.provenance import describe_run, git_state, ranks_by_host, versions


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(root: Path) -> Path:
    (root / "pretrain").mkdir(parents=True)
    (root / "pretrain" / "__main__.py").write_text("print(1)\n")
    git(root, "init", "--quiet")
    git(root, "add", "pretrain")
    git(root, "commit", "--quiet", "--message", "one")
    return root


def test_git_state_is_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    root = repository(tmp_path / "code")
    commit = git(root, "rev-parse", "HEAD")
    (root / "runs").mkdir()
    (root / "runs" / "new").write_text("untracked files change no result")
    assert git_state(root) == {"commit": commit, "dirty": False}
    (root / "pretrain" / "__main__.py").write_text("print(2)\n")
    assert git_state(root) == {"commit": commit, "dirty": True}


def test_code_that_git_does_not_track_has_no_commit(tmp_path: Path) -> None:
    root = repository(tmp_path / "project")
    installed = root / "env" / "site-packages"
    (installed / "pretrain").mkdir(parents=True)
    (installed / "pretrain" / "__main__.py").write_text("print(1)\n")
    assert git_state(installed) is None, "the repository around an installed package is another project"
    assert git_state(tmp_path) is None


def test_ranks_are_listed_by_host_in_ranges() -> None:
    assert ranks_by_host(["a"] * 8 + ["b"] * 8) == {"a": "0-7", "b": "8-15"}
    assert ranks_by_host(["a", "b", "a", "b"]) == {"a": "0,2", "b": "1,3"}
    assert ranks_by_host(["a", "a", "b", "a", "a"]) == {"a": "0-1,3-4", "b": "2"}


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert found["torch"] == metadata.version("torch")
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_run_is_described_with_its_data(tmp_path: Path) -> None:
    data = [{"manifest_sha256": "ab", "statistics": {"documents": 3}}]
    (tmp_path / "data.json").write_text(json.dumps(data))
    described = describe_run(tmp_path, ["node1", "node1"], "NVIDIA H100 80GB HBM3")
    assert described["data"] == data
    assert (described["hosts"], described["world_size"]) == ({"node1": "0-1"}, 2)
    assert described["device"] == "NVIDIA H100 80GB HBM3"
    json.dumps(described)
