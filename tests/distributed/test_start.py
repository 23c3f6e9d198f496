"""Before anything is read or built, ranks that do not belong together find out, and all of them learn why."""

import contextlib
import io
import os
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from pretrain import agreement, shared_folder
from pretrain.agreement import PACKAGES, ROOT, own_basis, require_agreement
from pretrain.distributed import Ranks
from pretrain.shared_folder import require_shared
from tests.distributed.runs import tiny_config
from tests.distributed.test_agreement import outcome


def agree(ranks: Ranks, overrides: dict[int, list[str]], roots: dict[int, Path], seconds_ahead: dict[int, float]):
    """Return what a rank is told when some have other arguments, other code or another clock."""
    config = tiny_config(Path("shards"), Path("run"), *overrides.get(ranks.rank, []))
    own = own_basis(config, roots.get(ranks.rank, ROOT))
    now, said = agreement.time.time, io.StringIO()
    ahead = patch.object(agreement.time, "time", lambda: now() + seconds_ahead.get(ranks.rank, 0.0))
    with contextlib.redirect_stderr(said), ahead:
        result = outcome(lambda: require_agreement(own, ranks))
    return *result, said.getvalue()


def told(group, *, overrides=None, roots=None, seconds_ahead=None) -> list[tuple[str, str, str]]:
    return group.run(agree, overrides or {}, roots or {}, seconds_ahead or {})


def test_equal_ranks_agree_and_hear_nothing(worker_group):
    assert told(worker_group(3), seconds_ahead={1: 1.0}) == [("returned", "None", "")] * 3


def test_other_arguments_on_some_ranks_are_named_on_all_with_every_key(worker_group):
    other = ["engine.zero_stage=2", "seed=4"]
    results = told(worker_group(3), overrides={1: other, 2: other})
    assert [kind for kind, _, _ in results] == ["FailureElsewhereError", "ValueError", "FailureElsewhereError"]
    (message,) = {message for _, message, _ in results}
    assert message.startswith("rank 1 on ")
    assert " (and 1 more ranks) was started with another config than rank 0: " in message
    assert "engine.zero_stage=2, there 1; seed=4, there 0" in message


def test_other_code_on_a_rank_is_named_by_file(worker_group, tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pretrain" / "schedule.py").write_text("# another release\n")
    results = told(worker_group(3), roots={2: tmp_path})
    assert results[2][0] == "ValueError"
    assert "runs other code than rank 0: pretrain/schedule.py: install the same release" in results[0][1]


def test_a_clock_that_is_off_costs_a_warning_on_rank_0(worker_group):
    results = told(worker_group(3), seconds_ahead={2: 60.0})
    assert [kind for kind, _, _ in results] == ["returned"] * 3
    assert "warning: the clock of " in results[0][2]
    assert re.search(r"\(rank 2\) is \d\d s ahead of that of \S+ \(rank 0\)", results[0][2])
    assert results[1][2] == results[2][2] == ""


def probe_in_own_folder(ranks: Ranks, folders: list[Path], run_dir: str):
    """The same relative `run_dir` in each rank's folder: one path, several places, as without a shared file system."""
    before = Path.cwd()
    os.chdir(folders[ranks.rank])
    try:
        with patch.object(shared_folder, "PROBE_SECONDS", 0.3):
            return outcome(lambda: require_shared(Path(run_dir), ranks))
    finally:
        os.chdir(before)


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
