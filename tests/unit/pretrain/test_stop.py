"""A wish to stop is remembered with its reason."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from pretrain.stop import STOP_SIGNALS, StopRequest


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield StopRequest()
    for number, handler in before.items():
        signal.signal(number, handler)


def age_minutes() -> float:
    return (time.time() - psutil.Process().create_time()) / 60


def test_without_a_signal_or_a_budget_nobody_wants_to_stop(stop):
    stop.after_minutes(None)
    assert not stop.requested
    assert stop.reason is None


def test_the_budget_counts_from_the_start_of_the_process(stop):
    stop.after_minutes(age_minutes() + 10)
    assert not stop.requested
    stop.after_minutes(age_minutes())
    assert stop.requested


def test_the_reason_names_the_key_and_its_value(stop):
    stop.after_minutes(0.001)
    assert stop.requested
    assert stop.reason == "max_minutes=0.001"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_first_reason_stays(stop, number):
    os.kill(os.getpid(), number)
    assert stop.requested
    os.kill(os.getpid(), signal.SIGUSR1)
    stop.after_minutes(0.001)
    assert stop.requested
    assert stop.reason == signal.Signals(number).name
