from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import get_polynomial_decay_schedule_with_warmup

from pretrain.config import LrScheduleConfig
from pretrain.schedule import learning_rate

PEAK = 1e-3


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, LrScheduleConfig]:
    max_steps = draw(st.integers(1, 300))
    schedule = LrScheduleConfig(
        warmup_steps=draw(st.integers(0, max_steps)),
        power=draw(st.sampled_from([0.5, 1.0, 2.0])),
        end_learning_rate=draw(st.sampled_from([0.0, 1e-5, 5e-4])),
    )
    return max_steps, schedule


@settings(max_examples=100)
@given(schedules())
def test_rate_rises_to_the_peak_and_then_falls(case: tuple[int, LrScheduleConfig]) -> None:
    max_steps, schedule = case
    rates = [learning_rate(step, max_steps=max_steps, peak=PEAK, schedule=schedule) for step in range(max_steps)]
    warmup = schedule.warmup_steps
    assert all(a < b for a, b in pairwise(rates[:warmup]))
    assert all(a > b for a, b in pairwise(rates[warmup:]))
    assert max(rates) == PEAK
    assert rates[max(warmup - 1, 0)] == PEAK


@settings(max_examples=100)
@given(schedules())
def test_no_step_is_wasted_at_rate_zero(case: tuple[int, LrScheduleConfig]) -> None:
    max_steps, schedule = case
    rates = [learning_rate(step, max_steps=max_steps, peak=PEAK, schedule=schedule) for step in range(max_steps)]
    assert min(rates) > 0


@settings(max_examples=50)
@given(schedules())
def test_rate_is_that_of_transformers_one_step_ahead_during_the_warmup(case: tuple[int, LrScheduleConfig]) -> None:
    max_steps, schedule = case
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    assume(schedule.warmup_steps < max_steps)  # transformers divides by the steps of decay
    oracle = get_polynomial_decay_schedule_with_warmup(
        optimizer, schedule.warmup_steps, max_steps, schedule.end_learning_rate, schedule.power
    ).lr_lambdas[0]
    for step in range(max_steps):
        read_at = step + 1 if step < schedule.warmup_steps else step
        rate = learning_rate(step, max_steps=max_steps, peak=PEAK, schedule=schedule)
        assert rate == pytest.approx(PEAK * oracle(read_at))


def test_linear_schedule_by_hand() -> None:
    schedule = LrScheduleConfig(warmup_steps=2, power=1.0, end_learning_rate=0.0)
    rates = [learning_rate(step, max_steps=6, peak=4.0, schedule=schedule) for step in range(7)]
    assert rates == [2.0, 4.0, 4.0, 3.0, 2.0, 1.0, 0.0]
