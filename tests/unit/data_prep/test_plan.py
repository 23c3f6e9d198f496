import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.buckets import Buckets
from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusFormat
from data_prep.corpus_parts import CorpusPart
from data_prep.plan import (
    BuildTask,
    Plan,
    build_task,
    make_plan,
    num_build_tasks,
    range_warning,
    read_task,
    text_bytes_of,
    write_tasks,
)


def corpus_file(number: int, size: int, suffix: str = ".txt") -> CorpusFile:
    return CorpusFile(path=f"/corpus/{number:06d}{suffix}", size=size, version="1")


@given(st.integers(1, 10**13), st.integers(1, 10**10), st.floats(0, 0.99))
def test_a_bucket_is_expected_to_hold_at_most_bucket_bytes(size: int, bucket_bytes: int, fraction: float) -> None:
    plan = make_plan(
        [corpus_file(0, size)], [CorpusFormat.text], task_bytes=10**9, bucket_bytes=bucket_bytes,
        held_out_fraction=fraction,
    )  # fmt: skip
    slack = 1 + 1e-9
    assert size * (1 - fraction) <= plan.buckets.train * bucket_bytes * slack
    assert size * fraction <= plan.buckets.held_out * bucket_bytes * slack
    assert (plan.buckets.held_out == 0) == (fraction == 0)


def test_buckets_do_not_depend_on_how_tasks_are_cut() -> None:
    files = [corpus_file(number, 1000) for number in range(100)]
    plans = [
        make_plan(files, [CorpusFormat.jsonl], task_bytes=size, bucket_bytes=7000, held_out_fraction=0.1)
        for size in (500, 5000, 10**9)
    ]
    assert len({plan.buckets for plan in plans}) == 1
    assert [len(plan.tasks) for plan in plans] == [200, 20, 1]
    assert {plan.num_files for plan in plans} == {100}


def test_the_plan_for_ten_terabytes_is_the_one_in_the_documents() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "ten_terabytes.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:4]] for line in page.splitlines() if line.startswith("| ")]
    cells = {name: columns for name, *columns in table}
    files = [corpus_file(number, 250_000_000, ".jsonl") for number in range(40_000)]
    for column, task_bytes, bucket_bytes in ((0, None, None), (1, 2_500_000_000, 256_000_000)):
        plan = make_plan(
            files, [CorpusFormat.jsonl], task_bytes=task_bytes, bucket_bytes=bucket_bytes, held_out_fraction=0.001
        )
        tasks, groups, buckets = len(plan.tasks), plan.num_groups, plan.buckets
        assert cells["scatter tasks"][column] == f"{tasks:,}"
        assert cells["buckets, train and held out"][column] == f"{buckets.train:,} + {buckets.held_out:,}"
        assert cells["groups (buckets in each)"][column] == f"{groups:,} ({plan.buckets_per_group})"
        ranges = cells["range that a regroup task reads of each scatter file"]
        assert ranges[column] == f"{plan.range_bytes / 1e6:.2f} MB"
        assert cells["range reads"][column] == f"{tasks * groups / 1e6:.1f} million"
        assert f"{tasks * buckets.total / 1e6:.0f}" in cells_without_groups(page)
        assert range_warning(plan) is None


def cells_without_groups(page: str) -> list[str]:
    """Return the two numbers of millions of range reads that the page gives for a plan without groups."""
    return re.findall(r"without groups it would be (\d+) or (\d+) million", page)[0]


def test_a_compressed_file_counts_as_more_text() -> None:
    assert text_bytes_of(corpus_file(0, 100, ".jsonl.gz")) > text_bytes_of(corpus_file(0, 100, ".jsonl")) == 100


@given(st.integers(1, 20), st.integers(0, 5), st.integers(1, 5))
def test_build_tasks_cover_every_copy_of_every_bucket_once(train: int, held_out: int, dupe_factor: int) -> None:
    buckets = Buckets(train=train, held_out=held_out, held_out_fraction=0.1 if held_out else 0.0)
    tasks = [build_task(rank, buckets, dupe_factor) for rank in range(num_build_tasks(buckets, dupe_factor))]
    wanted = {
        BuildTask(split="train", copy=copy, bucket=bucket) for copy in range(dupe_factor) for bucket in range(train)
    } | {BuildTask(split="held_out", copy=0, bucket=bucket) for bucket in range(held_out)}
    assert len(tasks) == len(wanted)
    assert set(tasks) == wanted


@pytest.mark.parametrize(("num_files", "warned"), [(5, False), (2_000, True)])
def test_many_small_ranges_get_a_warning_with_the_remedy(num_files: int, warned: bool) -> None:
    buckets = Buckets(train=10_000, held_out=10, held_out_fraction=0.01)
    tasks = [[CorpusPart(path=f"/corpus/{number}", size=10**8)] for number in range(num_files)]
    plan = Plan(tasks=tasks, buckets=buckets, buckets_per_group=1, corpus_bytes=num_files * 10**8)
    warning = range_warning(plan)
    assert ("raise executor.task_bytes" in (warning or "")) == warned


def test_a_task_reads_back_its_own_parts(tmp_path: Path) -> None:
    parts = [CorpusPart(path="/corpus/a", size=5, start=5, stop=10), CorpusPart(path="/corpus/b", size=6)]
    tasks = [parts, [CorpusPart(path="/corpus/c", size=7)]]
    write_tasks(tmp_path, tasks)
    assert [read_task(tmp_path, rank) for rank in range(2)] == tasks
