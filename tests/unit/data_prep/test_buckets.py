import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.buckets import (
    GOOD_RANGE_BYTES,
    LARGE_BUCKET_BYTES,
    MANY_RANGES,
    SCATTERED_BYTES_PER_TEXT_BYTE,
    SMALL_BUCKET_BYTES,
    Buckets,
    bucket_of,
    choose_buckets_per_group,
    divide_corpus,
    is_held_out,
    place_document,
)
from data_prep.documents import document_id


@given(st.integers(1, 10**14), st.floats(0, 0.99))
def test_buckets_that_no_one_sized_are_a_32nd_of_the_corpus_within_bounds(text_bytes: int, fraction: float) -> None:
    buckets = divide_corpus(text_bytes, bucket_bytes=None, held_out_fraction=fraction)
    share = text_bytes * (1 - fraction) / buckets.train
    assert share <= max(SMALL_BUCKET_BYTES, min(text_bytes / 32 + 1, LARGE_BUCKET_BYTES))
    assert buckets.train <= max(32, text_bytes / LARGE_BUCKET_BYTES + 1)


@given(st.integers(1, 10**14), st.integers(1, 5000), st.integers(1, 10**6))
def test_ranges_are_few_or_large_and_groups_hold_every_bucket(text_bytes: int, tasks: int, buckets: int) -> None:
    per_group = choose_buckets_per_group(text_bytes=text_bytes, num_tasks=tasks, num_buckets=buckets)
    groups = -(-buckets // per_group)
    range_bytes = text_bytes * SCATTERED_BYTES_PER_TEXT_BYTE / tasks / groups
    assert 1 <= per_group <= buckets
    assert tasks * groups <= MANY_RANGES or range_bytes >= GOOD_RANGE_BYTES
    assert groups >= min(buckets, MANY_RANGES // tasks) / 2, "enough tasks for the workers"


def test_ten_terabytes_in_4096_tasks_are_read_in_ranges_of_a_megabyte() -> None:
    buckets = divide_corpus(10**13, bucket_bytes=None, held_out_fraction=0.001)
    per_group = choose_buckets_per_group(text_bytes=10**13, num_tasks=4096, num_buckets=buckets.total)
    groups = -(-buckets.total // per_group)
    assert (buckets.total, per_group, groups) == (156_251, 117, 1336)


def test_split_and_bucket_are_uniform_and_independent() -> None:
    buckets = Buckets(train=4, held_out=4, held_out_fraction=0.25)
    ids = [document_id(str(number)) for number in range(20_000)]
    table = np.zeros((2, 4))
    for identifier in ids:
        table[int(is_held_out(identifier, 0.25)), bucket_of(identifier, 4)] += 1
    expected = len(ids) * np.array([[0.75], [0.25]]) / 4
    # Five standard deviations of a binomial count; the ids are fixed, so this passes always or never.
    assert np.all(np.abs(table - expected) < 5 * np.sqrt(expected))
    places = np.bincount([place_document(identifier, buckets) for identifier in ids], minlength=8)
    assert places.tolist() == [*table[0], *table[1]]


def test_nothing_is_held_out_at_fraction_zero() -> None:
    buckets = Buckets(train=3, held_out=0, held_out_fraction=0.0)
    assert {place_document(document_id(str(number)), buckets) for number in range(1000)} == {0, 1, 2}


@given(st.binary(min_size=16, max_size=16), st.integers(1, 10**6))
def test_a_bucket_is_in_range_for_every_id(identifier: bytes, num_buckets: int) -> None:
    assert 0 <= bucket_of(identifier, num_buckets) < num_buckets
