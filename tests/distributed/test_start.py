"""Before anything is read or built, ranks that do not belong together find out, and all of them learn why."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest

from pretrain import agreement, shared_folder
from pretrain.agreement import PACKAGES, ROOT, require_agreement, require_same_code
from pretrain.distributed import Ranks
from pretrain.shared_folder import require_shared
from tests.distributed.runs import tiny_config, train_run
from tests.distributed.test_agreement import outcome

NOBODY = 65534


def start(ranks: Ranks, run_dir: Path, overrides: dict[int, list[str]], seconds_ahead: dict[int, float]):
    """Return what the command says on a rank when some have other arguments or another clock."""
    now = agreement.time.time
    with patch.object(agreement.time, "time", lambda: now() + seconds_ahead.get(ranks.rank, 0.0)):
        return outcome(lambda: train_run(ranks, Path("no shards"), run_dir, *overrides.get(ranks.rank, [])))


def agree(ranks: Ranks, seconds_ahead: dict[int, float]):
    now = agreement.time.time
    with patch.object(agreement.time, "time", lambda: now() + seconds_ahead.get(ranks.rank, 0.0)):
        require_agreement(tiny_config(Path("shards"), Path("run")), ranks)
    require_same_code(ranks)


def test_equal_ranks_agree(worker_group):
    worker_group(3).run(agree, {1: 1.0})


def test_other_arguments_on_some_ranks_are_named_on_all_with_every_key(worker_group, tmp_path):
    other = ["engine.zero_stage=2", "seed=4"]
    results = worker_group(3).run(start, tmp_path / "run", {1: other, 2: other}, {})
    assert [kind for kind, _ in results] == ["FailureElsewhereError", "ValueError", "FailureElsewhereError"]
    (message,) = {message for _, message in results}
    assert message.startswith("rank 1 on ")
    assert " (and 1 more ranks) was started with another config than rank 0: " in message
    assert "engine.zero_stage=2, there 1; seed=4, there 0" in message
    assert not list(tmp_path.iterdir())


def compare_code(ranks: Ranks, roots: dict[int, Path]):
    return outcome(lambda: require_same_code(ranks, roots.get(ranks.rank, ROOT)))


def test_other_code_on_a_rank_is_named_by_file(worker_group, tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pretrain" / "schedule.py").write_text("# another release\n")
    results = worker_group(3).run(compare_code, {2: tmp_path})
    assert [kind for kind, _ in results] == ["FailureElsewhereError", "FailureElsewhereError", "ValueError"]
    assert "runs other code than rank 0: pretrain/schedule.py: install the same release" in results[0][1]


def test_a_clock_that_is_off_is_named_on_all(worker_group, tmp_path):
    results = worker_group(3).run(start, tmp_path / "run", {}, {2: 60.0})
    assert [kind for kind, _ in results] == ["ValueError", "FailureElsewhereError", "FailureElsewhereError"]
    (message,) = {message for _, message in results}
    assert re.search(r"clock of \S+ \(rank 2\) is (59|60) s ahead of that of \S+ \(rank 0\): set it right", message)
    assert not list(tmp_path.iterdir())


def probe_in_own_folder(ranks: Ranks, folders: list[Path], run_dir: str):
    """The same relative `run_dir` in each rank's folder: one path, several places, as without a shared file system."""
    before = Path.cwd()
    os.chdir(folders[ranks.rank])
    try:
        return probe(ranks, Path(run_dir))
    finally:
        os.chdir(before)


def probe(ranks: Ranks, run_dir: Path):
    with patch.object(shared_folder, "PROBE_SECONDS", 0.3):
        return outcome(lambda: require_shared(run_dir, ranks))


@pytest.mark.parametrize("run_dir", ["run", "runs/new"])
def test_an_equal_folder_that_is_not_the_shared_one_is_found(worker_group, tmp_path, run_dir):
    folders = [tmp_path / "node0", tmp_path / "node1"]
    for folder in folders:
        (folder / "run").mkdir(parents=True)
    assert worker_group(2).run(probe_in_own_folder, [folders[0]] * 2, run_dir) == [("returned", "None")] * 2
    results = worker_group(2).run(probe_in_own_folder, folders, run_dir)
    assert [kind for kind, _ in results] == ["FailureElsewhereError", "ValueError"]
    assert f"run_dir={run_dir}: rank 1 on " in results[0][1]
    assert "does not see what rank 0 writes to " in results[0][1]
    assert "on a file system that all nodes share" in results[0][1]
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == [], "no probe stays"


def start_in_own_folder(ranks: Ranks, folders: list[Path]):
    os.chdir(folders[ranks.rank])
    try:
        with patch.object(shared_folder, "PROBE_SECONDS", 0.3):
            return start(ranks, Path("run"), {}, {})
    finally:
        os.chdir(ROOT)


def test_a_start_without_a_shared_folder_is_refused_and_writes_nothing(worker_group, tmp_path):
    folders = [tmp_path / "node0", tmp_path / "node1"]
    for folder in folders:
        folder.mkdir()
    results = worker_group(2).run(start_in_own_folder, folders)
    assert "does not see what rank 0 writes to" in results[0][1]
    assert sorted(tmp_path.rglob("*")) == folders


def probe_as_somebody_else(ranks: Ranks, run_dir: Path):
    if ranks.is_first:
        return probe(ranks, run_dir)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        return probe(ranks, run_dir)
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a rank as another user")
@pytest.mark.parametrize(("mode", "said"), [(0o755, "cannot write to "), (0o700, "one that it may not read; name one")])
def test_a_rank_that_may_not_write_or_not_even_look_is_named(worker_group, mode, said):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        results = worker_group(2).run(probe_as_somebody_else, Path(folder) / "run")
    assert results[0][0] == "FailureElsewhereError"
    assert re.search(rf"^run_dir=\S+: rank 1 on \S+ .*{said}", results[0][1])
