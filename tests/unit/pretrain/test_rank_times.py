"""Which ranks are slow, from what each of them tells of itself."""

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.own_times import ForwardClock
from pretrain.track.rank_times import (
    RankMeans,
    SlowRank,
    compare_ranks,
    comparison_due,
    peak_memory_bytes,
    slow_rank,
)


def means(forward: list[float], reading: list[float] | None = None) -> list[RankMeans]:
    reading = reading or [0.01] * len(forward)
    return [RankMeans(own, read, 1e9 * rank) for rank, (own, read) in enumerate(zip(forward, reading, strict=True))]


def test_the_metrics_name_the_slowest_and_the_typical_rank() -> None:
    record = compare_ranks(means([0.3, 0.9, 0.2, 0.4], [0.01, 0.02, 0.03, 0.04]))
    assert record == {
        "memory_gb": 3.0,
        "slowest_rank": 1,
        "slowest_rank_seconds": 0.9,
        "median_rank_seconds": 0.3,
        "slowest_reader": 3,
        "slowest_reader_seconds": 0.04,
        "median_reader_seconds": 0.02,
    }


def test_one_rank_alone_is_the_slowest_of_nobody() -> None:
    assert compare_ranks([RankMeans(forward_seconds=1.0, reading_seconds=1.0, memory_bytes=2e9)]) == {"memory_gb": 2.0}


def test_forward_passes_that_cannot_be_told_from_waiting_are_left_out() -> None:
    record = compare_ranks(means([math.nan, math.nan]))
    assert set(record) == {"memory_gb", "slowest_reader", "slowest_reader_seconds", "median_reader_seconds"}
    assert slow_rank(means([math.nan, math.nan]), step_seconds=1.0) is None


@pytest.mark.parametrize(
    ("forward", "reading", "slow"),
    [
        ([0.2, 0.2, 0.5], None, SlowRank(2, "its forward passes take", 0.5, 0.2)),
        ([0.5, 0.2], None, SlowRank(0, "its forward passes take", 0.5, 0.2)),
        ([0.2, 0.2, 0.29], None, None),  # less than half as slow again
        ([0.002, 0.002, 0.02], None, None),  # costs the step next to nothing
        ([0.2, 0.2, 0.2], [0.1, 1.1, 0.1], SlowRank(1, "reading its data takes", 1.1, 0.1)),
        ([0.2, 0.2, 0.2], [0.1, 0.8, 0.1], None),  # it is done before the step is
        ([0.2, 0.2, 0.2], [1.1, 1.1, 1.1], None),  # all alike
        ([0.2], [1.1], None),  # alone
    ],
)
def test_a_rank_is_slow_when_it_costs_the_others_time(
    forward: list[float], reading: list[float] | None, slow: SlowRank | None
) -> None:
    assert slow_rank(means(forward, reading), step_seconds=1.0) == slow


@given(log_every=st.integers(1, 30), every=st.integers(1, 100), total=st.integers(1, 500))
def test_each_interval_is_compared_once_at_a_line_and_the_first_and_last_line_too(
    log_every: int, every: int, total: int
) -> None:
    due = {
        step
        for step in range(1, total + 1)
        if comparison_due(step, every=every, log_every=log_every, total_steps=total)
    }
    first_lines = {-(-multiple // log_every) * log_every for multiple in range(every, total + 1, every)}
    expected = {step for step in first_lines | {log_every} if step <= total} | {total}
    assert due == expected


def test_zero_turns_the_comparison_off() -> None:
    assert not any(comparison_due(step, every=0, log_every=10, total_steps=100) for step in range(1, 101))


def test_the_clock_gives_the_mean_of_its_passes_and_begins_anew() -> None:
    clock = ForwardClock(torch.device("cpu"))
    assert clock.take_mean() == 0
    with clock.measure():
        time.sleep(0.02)
    with clock.measure():
        pass
    assert clock.take_mean() >= 0.01
    assert clock.take_mean() == 0


def test_memory_is_a_peak_in_bytes() -> None:
    before = peak_memory_bytes(torch.device("cpu"))
    block = torch.ones(2**26)
    after = peak_memory_bytes(torch.device("cpu"))
    assert 2**27 < before <= after < 2**45
    del block
    assert peak_memory_bytes(torch.device("cpu")) >= after
