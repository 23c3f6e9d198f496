from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus_config import CorpusFormat
from data_prep.corpus_parts import (
    LARGE_TASK_BYTES,
    MANY_TASKS,
    SMALL_TASK_BYTES,
    CorpusPart,
    choose_task_bytes,
    cut_files,
    group_parts,
)
from tests.unit.data_prep.test_plan import corpus_file


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 150))
def test_tasks_hold_every_part_once_in_order_and_stay_under_the_limit(sizes: list[int], task_bytes: int) -> None:
    parts = [CorpusPart(path=f"/corpus/{number}", size=size) for number, size in enumerate(sizes)]
    groups = group_parts(parts, task_bytes)
    assert list(chain.from_iterable(groups)) == parts
    for group in groups:
        assert len(group) == 1 or sum(part.size for part in group) <= task_bytes
    for group, following in pairwise(groups):
        assert sum(part.size for part in group) + following[0].size > task_bytes


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 300))
def test_the_parts_of_a_file_follow_each_other_and_are_its_bytes(sizes: list[int], part_bytes: int) -> None:
    files = [corpus_file(number, size) for number, size in enumerate(sizes)]
    parts = cut_files(files, [CorpusFormat.jsonl], part_bytes)
    assert max(part.size for part in parts) <= part_bytes
    for file in files:
        own = [part for part in parts if part.path == file.path]
        assert sum(part.size for part in own) == file.size
        if file.size > part_bytes:
            assert (own[0].start, own[-1].stop) == (0, file.size)
            assert all(part.stop - part.start == part.size for part in own)
            assert all(part.stop == following.start for part, following in pairwise(own))
        else:
            assert [part.is_whole for part in own] == [True]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_a_compressed_file_is_never_cut(suffix: str) -> None:
    assert len(cut_files([corpus_file(0, 10**6, f".jsonl{suffix}")], [CorpusFormat.jsonl], 1000)) == 1


@pytest.mark.parametrize(
    "corpus_format", [CorpusFormat.text, CorpusFormat.csv, CorpusFormat.parquet, CorpusFormat.arrow, CorpusFormat.warc]
)
def test_a_file_that_only_its_beginning_explains_is_never_cut(corpus_format: CorpusFormat) -> None:
    whole = CorpusPart(path="/corpus/000000.txt", size=10**6)
    assert cut_files([corpus_file(0, 10**6)], [corpus_format], 1000) == [whole]


@pytest.mark.parametrize(
    ("task_bytes", "corpus_bytes", "wanted"),
    [
        (None, 10**6, SMALL_TASK_BYTES),
        (None, 10**9, 10**9 // 32),
        (None, 10**11, LARGE_TASK_BYTES),
        (None, 4 * 10**12 + 1, 4 * 10**12 // MANY_TASKS + 1),
        (5000, 10**13, 5000),
        (10**12, 10**9, 10**9 // 32),
    ],
)
def test_task_bytes_follow_the_corpus_unless_the_config_says_less(
    task_bytes: int | None, corpus_bytes: int, wanted: int
) -> None:
    assert choose_task_bytes(task_bytes, corpus_bytes) == wanted


@given(st.integers(1, 10**15))
def test_by_default_tasks_number_4096_at_most_and_one_more_a_file(corpus_bytes: int) -> None:
    size = choose_task_bytes(None, corpus_bytes)
    assert len(cut_files([corpus_file(0, corpus_bytes)], [CorpusFormat.jsonl], size)) <= MANY_TASKS
