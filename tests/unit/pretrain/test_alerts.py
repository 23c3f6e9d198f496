"""Troubles are told once, when they begin, and again when they come back."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from pretrain.phases import RunState
from pretrain.step import StepResult
from pretrain.track.alerts import (
    MIN_STALL_SECONDS,
    MIN_STEPS,
    NON_FINITE,
    SKIPPED,
    SLOWED_DOWN,
    STALL_FACTOR,
    STALLED,
    Alerts,
)
from pretrain.track.metrics import StepSums

ZEROS = StepSums(**dict.fromkeys(StepSums.__dataclass_fields__, 0))


def result(step: int, *, bad_in_a_row: int = 0, tokens: int = 1000, seconds: float = 1.0, phase: int = 0) -> StepResult:
    return StepResult(
        state=RunState(step=step, bad_steps_in_a_row=bad_in_a_row),
        sums=replace(ZEROS, tokens=tokens, seconds=seconds),
        values={"phase": phase},
        note=None,
        stop_requested=False,
    )


class Heard(list[tuple[str, str]]):
    """What was told, as (title, text)."""

    def tell(self, title: str, text: str) -> None:
        self.append((title, text))

    def titles(self) -> list[str]:
        return [title for title, _ in self]


def alerts(heard: Heard) -> Alerts:
    return Alerts(heard.tell, max_bad_steps=10)


def test_bad_steps_are_told_when_they_begin_and_when_they_go_on() -> None:
    heard = Heard()
    watched = alerts(heard)
    for step, bad in enumerate([0, 1, 2, 3, 4, 0, 0, 1, 0], start=1):
        watched.observe(result(step, bad_in_a_row=bad))
    assert heard.titles() == [NON_FINITE, SKIPPED, NON_FINITE]
    assert heard[0][1].startswith("the loss or gradient of step 2 is not finite; max_bad_steps=10")
    assert heard[1][1].startswith("the last 3 steps were skipped")
    assert "step 8" in heard[2][1]


def test_half_the_throughput_is_told_once_and_again_after_it_was_over() -> None:
    heard = Heard()
    watched = alerts(heard)
    pace = [1.0] * 60 + [3.0] * 25 + [1.0] * 90 + [3.0] * 25
    for step, seconds in enumerate(pace, start=1):
        watched.observe(result(step, seconds=seconds))
    assert heard.titles() == [SLOWED_DOWN, SLOWED_DOWN]
    assert "where 1,000 is the median" in heard[0][1]
    assert "in the 28 steps up to 76" in heard[0][1], "16 slow steps bring the last minute under one half"


def test_steps_a_little_slower_and_another_phase_are_no_trouble() -> None:
    heard = Heard()
    watched = alerts(heard)
    for step in range(1, 100):
        watched.observe(result(step, seconds=1.0 + step % 10 / 10))
    for step in range(100, 110):  # half a minute
        watched.observe(result(step, seconds=3.0))
    for step in range(110, 200):
        watched.observe(result(step, phase=1, tokens=200))
    assert heard == []


def test_a_pause_of_seconds_amid_fast_steps_is_no_drop_and_a_slow_minute_is() -> None:
    heard = Heard()
    watched = alerts(heard)
    pace = [0.02] * 4000 + [20.0] + [0.02] * 4000
    for step, seconds in enumerate(pace, start=1):
        watched.observe(result(step, seconds=seconds))
    assert heard == [], "of the last minute, 40 s went as always"
    for step in range(len(pace) + 1, len(pace) + 501):
        watched.observe(result(step, seconds=0.2))
    assert heard.titles() == [SLOWED_DOWN]


def test_a_step_that_does_not_end_is_told_once() -> None:
    heard = Heard()
    watched = alerts(heard)
    watched.check_stalled(1e6)
    assert heard == [], "how long steps take is not known yet"
    for step in range(1, MIN_STEPS + 1):
        watched.observe(result(step, seconds=10.0))
    watched.check_stalled(STALL_FACTOR * 10 - 1)
    assert heard == []
    watched.check_stalled(STALL_FACTOR * 10 + 1)
    watched.check_stalled(STALL_FACTOR * 10 + 2)
    assert heard == [(STALLED, "step 31 has not finished for 201 s; the median is 10.00 s")]
    watched.observe(result(MIN_STEPS + 1, seconds=10.0))
    watched.check_stalled(STALL_FACTOR * 10 + 1)
    assert heard.titles() == [STALLED, STALLED]


def test_fast_steps_are_not_stalled_within_a_minute() -> None:
    heard = Heard()
    watched = alerts(heard)
    for step in range(1, 100):
        watched.observe(result(step, seconds=0.01))
    watched.check_stalled(MIN_STALL_SECONDS - 1)
    assert heard == []
    watched.check_stalled(MIN_STALL_SECONDS + 1)
    assert heard.titles() == [STALLED]


def test_the_thread_sees_a_step_under_way_and_not_what_lies_between_steps(monkeypatch) -> None:
    monkeypatch.setattr("pretrain.track.alerts.CHECK_SECONDS", 0.001)
    monkeypatch.setattr("pretrain.track.alerts.MIN_STALL_SECONDS", 0.05)
    heard = Heard()

    def steps() -> Iterator[StepResult]:
        for step in range(1, MIN_STEPS + 1):
            yield result(step, seconds=1e-6)
        for _ in itertools.takewhile(lambda _: not heard, itertools.repeat(0)):
            pass  # a step that ends when it was told of
        yield result(MIN_STEPS + 1, seconds=1e-6)

    watched = alerts(heard)
    with watched:
        for done in watched.follow(steps()):
            assert watched._begun is None, f"after step {done.state.step} none is under way"
    assert heard.titles() == [STALLED]
