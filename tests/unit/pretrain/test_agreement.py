"""Messages on what ranks differ in; that all ranks get them is shown in tests/distributed/test_start.py."""

import re
import shutil

import pytest

from pretrain.agreement import ROOT, Readings, describe_code, describe_config, own_code, require_clocks


def test_every_config_key_that_differs_is_named_with_both_values():
    first = {"seed": 0, "data.micro_batch_size": 2, "engine.zero_stage": 1}
    said = describe_config({"seed": 1, "data.micro_batch_size": 4, "engine.zero_stage": 1}, first)
    assert said == (
        "was started with another config than rank 0: data.micro_batch_size=4, there 2; seed=1, there 0: "
        "give all ranks the same arguments"
    )


def test_libraries_are_named_with_versions_and_the_first_files_by_name():
    first = {"pretrain/step.py": "a", "conf/pretrain.yaml": "b", "torch": "2.13.0", "deepspeed": "0.19.8"}
    own = first | {f"pretrain/new_{number}.py": "c" for number in range(7)} | {"torch": "2.12.1"}
    assert re.fullmatch(
        r"runs other code than rank 0: torch 2\.12\.1, there 2\.13\.0; pretrain/new_0\.py; .*pretrain/new_4\.py; "
        r"2 more files: install the same release on every node",
        describe_code(own, first),
    )


def test_the_code_knows_every_source_of_ours_and_sees_one_changed_letter(tmp_path):
    for package in ("conf", "data_prep", "pretrain"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = own_code(tmp_path)
    assert {"conf/pretrain.yaml", "conf/model/base.yaml", "pretrain/agreement.py", "torch"} <= before.keys()
    path = tmp_path / "pretrain" / "seeds.py"
    path.write_text(path.read_text().replace("a", "b", 1))
    (tmp_path / "pretrain" / "notes.txt").write_text("no source")
    assert describe_code(own_code(tmp_path), before).startswith("runs other code than rank 0: pretrain/seeds.py: ")


def readings(*ranges: tuple[float, float]) -> list[Readings]:
    return [Readings(f"host{rank}", before, after) for rank, (before, after) in enumerate(ranges)]


@pytest.mark.parametrize(
    ("second", "third", "said"),
    [
        ((104.0, 104.1), (160.0, 160.1), r"the clock of host2 \(rank 2\) is 60 s ahead of that of host0 \(rank 0\)"),
        ((40.0, 40.1), (110.0, 110.1), r"the clock of host1 \(rank 1\) is 60 s behind that of host0 \(rank 0\)"),
    ],
)
def test_the_clock_farthest_from_the_first_is_named(second, third, said):
    with pytest.raises(ValueError, match=said):
        require_clocks(readings((100.0, 100.1), second, third))


def test_a_rank_that_reads_its_clock_late_is_not_taken_for_one_whose_clock_is_off():
    require_clocks(readings((100.0, 100.1), (104.0, 104.1), (97.0, 97.1)))
    require_clocks(readings((100.0, 100.1), (100.0, 160.0), (40.0, 100.2)))
    with pytest.raises(ValueError, match=r"host1 .* is 10 s ahead"):
        require_clocks(readings((100.0, 130.0), (140.0, 140.1)))
