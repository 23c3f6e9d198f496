from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpus import CorpusFile
from data_prep.documents import Buckets
from data_prep.plan import (
    BuildTask,
    Plan,
    build_task,
    group_files,
    make_plan,
    num_build_tasks,
    range_warning,
    read_task,
    text_bytes_of,
    write_tasks,
)


def corpus_file(number: int, size: int, suffix: str = ".txt") -> CorpusFile:
    return CorpusFile(path=f"/corpus/{number:06d}{suffix}", size=size, version="1")


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 150))
@settings(deadline=None)
def test_tasks_hold_every_file_once_in_order_and_stay_under_the_limit(sizes: list[int], task_bytes: int) -> None:
    files = [corpus_file(number, size) for number, size in enumerate(sizes)]
    groups = group_files(files, task_bytes)
    assert list(chain.from_iterable(groups)) == files
    for group in groups:
        assert len(group) == 1 or sum(file.size for file in group) <= task_bytes
    for group, following in pairwise(groups):
        assert sum(file.size for file in group) + following[0].size > task_bytes


@given(st.integers(1, 10**13), st.integers(1, 10**10), st.floats(0, 0.99))
@settings(deadline=None)
def test_a_bucket_is_expected_to_hold_at_most_bucket_bytes(size: int, bucket_bytes: int, fraction: float) -> None:
    plan = make_plan([corpus_file(0, size)], task_bytes=10**9, bucket_bytes=bucket_bytes, held_out_fraction=fraction)
    slack = 1 + 1e-9
    assert size * (1 - fraction) <= plan.buckets.train * bucket_bytes * slack
    assert size * fraction <= plan.buckets.held_out * bucket_bytes * slack
    assert (plan.buckets.held_out == 0) == (fraction == 0)


def test_buckets_do_not_depend_on_how_tasks_are_cut() -> None:
    files = [corpus_file(number, 1000) for number in range(100)]
    plans = [make_plan(files, task_bytes=size, bucket_bytes=7000, held_out_fraction=0.1) for size in (1, 5000, 10**9)]
    assert len({plan.buckets for plan in plans}) == 1
    assert [len(plan.tasks) for plan in plans] == [100, 20, 1]


def test_a_compressed_file_counts_as_more_text_and_the_same_input() -> None:
    assert text_bytes_of(corpus_file(0, 100, ".jsonl.gz")) > text_bytes_of(corpus_file(0, 100, ".jsonl")) == 100
    assert group_files([corpus_file(0, 100, ".txt.zst"), corpus_file(1, 100)], 200) == [
        [corpus_file(0, 100, ".txt.zst"), corpus_file(1, 100)]
    ]


@given(st.integers(1, 20), st.integers(0, 5), st.integers(1, 5))
@settings(deadline=None)
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
    tasks = [[corpus_file(number, 10**8)] for number in range(num_files)]
    warning = range_warning(Plan(tasks=tasks, buckets=buckets, corpus_bytes=num_files * 10**8))
    assert ("raise executor.task_bytes" in (warning or "")) == warned


def test_a_task_reads_back_its_own_files(tmp_path: Path) -> None:
    tasks = [[corpus_file(0, 5), corpus_file(1, 6)], [corpus_file(2, 7)]]
    write_tasks(tmp_path, tasks)
    assert [read_task(tmp_path, rank) for rank in range(2)] == tasks
