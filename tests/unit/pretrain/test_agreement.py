"""Messages on what ranks differ in; that all ranks get them is shown in tests/distributed/test_start.py."""

import re
import shutil
from dataclasses import replace

import pytest

from pretrain.agreement import ROOT, Account, Basis, describe_clocks, describe_difference, own_basis
from tests.unit.conf.test_compose import pretrain

FIRST = Basis(
    files={"pretrain/step.py": "a", "conf/pretrain.yaml": "b"},
    libraries={"torch": "2.13.0", "numpy": "2.4"},
    config={"seed": 0, "data.micro_batch_size": 2, "engine.zero_stage": 1},
)


def test_every_config_key_that_differs_is_named_with_both_values():
    own = replace(FIRST, config={"seed": 1, "data.micro_batch_size": 4, "engine.zero_stage": 1})
    said = describe_difference(own, FIRST)
    assert said == (
        "was started with another config than rank 0: data.micro_batch_size=4, there 2; seed=1, there 0: "
        "give all ranks the same arguments"
    )


def test_libraries_are_named_with_versions_and_the_first_files_by_name():
    files = FIRST.files | {f"pretrain/new_{number}.py": "c" for number in range(7)}
    own = replace(FIRST, files=files, libraries={"torch": "2.12.1", "numpy": "2.4"})
    assert re.fullmatch(
        r"runs other code than rank 0: torch 2\.12\.1, there 2\.13\.0; pretrain/new_0\.py; .*pretrain/new_4\.py; "
        r"2 more files: install the same release on every node",
        describe_difference(own, FIRST),
    )


def test_the_basis_knows_every_source_of_ours_and_sees_one_changed_letter(tmp_path):
    for package in ("conf", "data_prep", "pretrain"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    config = pretrain()
    before = own_basis(config, tmp_path)
    assert {"conf/pretrain.yaml", "conf/model/base.yaml", "pretrain/agreement.py"} <= before.files.keys()
    path = tmp_path / "pretrain" / "seeds.py"
    path.write_text(path.read_text().replace("a", "b", 1))
    (tmp_path / "pretrain" / "notes.txt").write_text("no source")
    assert describe_difference(own_basis(config, tmp_path), before).startswith(
        "runs other code than rank 0: pretrain/seeds.py: "
    )
    assert own_basis(config, tmp_path).config["phases.0.data.num_streams"] == 8


@pytest.mark.parametrize(
    ("clocks", "said"),
    [
        ((100.0, 104.0, 97.0), None),
        ((100.0, 104.0, 160.0), r"the clock of host2 \(rank 2\) is 60 s ahead of that of host0 \(rank 0\)"),
        ((100.0, 40.0, 110.0), r"the clock of host1 \(rank 1\) is 60 s behind that of host0 \(rank 0\)"),
    ],
)
def test_the_clock_farthest_from_the_first_is_named(clocks, said):
    accounts = [Account(f"host{rank}", "", clock) for rank, clock in enumerate(clocks)]
    found = describe_clocks(accounts)
    assert (found is None) if said is None else re.match(said, found)
