"""A wish to stop is remembered with its reason."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from pretrain.stop import STOP_SIGNALS, StopRequest, mortal


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where pytest runs under nohup
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


def test_a_closed_terminal_stops_nothing_under_nohup(stop):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGHUP)
    assert not StopRequest().requested
    os.kill(os.getpid(), signal.SIGHUP)
    with mortal():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert not stop.requested


def test_while_nothing_can_be_lost_signals_end_the_process_and_afterwards_they_are_heeded_again(stop):
    with mortal():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == [signal.SIG_DFL] * len(STOP_SIGNALS)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.reason == "SIGTERM"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_reason_stays(stop, number):
    os.kill(os.getpid(), number)
    assert stop.requested
    os.kill(os.getpid(), signal.SIGUSR1)
    stop.after_minutes(0.001)
    assert stop.requested
    assert stop.reason == signal.Signals(number).name
