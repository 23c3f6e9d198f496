"""A step that does not end is named with the stacks of all threads; errors of collectives and bugs name their step."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch.distributed as dist

from pretrain.distributed import LostRanksError
from pretrain.phases import RunState
from pretrain.step import StepResult
from pretrain.step_watch import StepWatch
from pretrain.track.metrics import StepSums

GLOO_TIMEOUT = RuntimeError("[/src/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 5000ms")
GLOO_CLOSED = RuntimeError(
    "[/src/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1. "
    "This is typically caused by a remote worker crashing."
)


def result(step: int) -> StepResult:
    sums = StepSums(**dict.fromkeys(StepSums.__dataclass_fields__, 0))
    return StepResult(state=RunState(step=step), sums=sums, values={}, note=None, stop_requested=False)


def steps(*numbers: int, then: Callable[[], Any] = lambda: None) -> Iterator[StepResult]:
    for number in numbers:
        yield result(number)
    then()


def wait_for_output(capfd: Any, text: str) -> str:
    output, deadline = "", time.monotonic() + 120
    while text not in output and time.monotonic() < deadline:
        time.sleep(0.02)
        output += capfd.readouterr().err
    return output


def hang_in_a_step(capfd: Any, found: list[str]) -> None:
    found.append(wait_for_output(capfd, "hang_in_a_step"))
    time.sleep(1)  # twice as long as ranks wait: time for a second report
    found.append(capfd.readouterr().err)


def test_a_step_that_hangs_is_named_once_with_the_stacks(capfd):
    found: list[str] = []
    with StepWatch(rank=3, step=7, timeout_seconds=0.5) as watch:
        for _ in watch.follow(steps(8, then=lambda: hang_in_a_step(capfd, found))):
            pass
    output, later = found
    assert output.startswith("rank 3: step 9 has not finished for ")
    assert "engine.collective_timeout_seconds=0.5" in output
    assert output.count("most recent call first") >= 2, "the main thread's stack and the watch's own"
    assert "has not finished" not in later, "it says so once"


def test_what_follows_a_step_and_what_precedes_the_first_is_named(capfd):
    with StepWatch(rank=0, step=7, timeout_seconds=0.2):
        assert "rank 0: the start has not finished" in wait_for_output(capfd, "most recent call first")
    with StepWatch(rank=0, step=7, timeout_seconds=0.2) as watch:
        for _ in watch.follow(steps(8)):
            output = wait_for_output(capfd, "most recent call first")
    assert "rank 0: logging, evaluation or saving after step 8 has not finished" in output


def test_steps_that_end_in_time_are_not_reported_and_the_thread_ends(capfd):
    with StepWatch(rank=0, step=0, timeout_seconds=60) as watch:
        assert [done.state.step for done in watch.follow(steps(1, 2, 3))] == [1, 2, 3]
        assert watch.step == 3
    deadline = time.monotonic() + 120
    while "step-watch" in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GLOO_TIMEOUT, r"another rank hangs, .* \(Timed out waiting 5000ms\).*"),
        (
            GLOO_CLOSED,
            r"another rank has ended, .* \(Connection closed by peer \[::1\]:1\.\); its own message says why",
        ),
        (dist.DistBackendError("NCCL error: remote process exited"), r"another rank has ended, .* \(NCCL error"),
    ],
)
def test_a_failed_collective_becomes_one_line_that_names_the_step(error, said):
    expected = rf"^rank 1, step 6, after \d+\.\d s: {said}.*The same command goes on from the last checkpoint"
    with (
        pytest.raises(LostRanksError, match=expected) as caught,
        StepWatch(rank=1, step=4, timeout_seconds=60) as watch,
    ):
        list(watch.follow(_raise_after(error, result(5))))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__cause__ is error


def _raise_after(error: BaseException, *results: StepResult) -> Iterator[StepResult]:
    yield from results
    raise error


@pytest.mark.parametrize("error", [TypeError("a bug"), RuntimeError("CUDA out of memory"), ValueError("diverged")])
def test_another_error_stays_what_it_is_and_says_where_it_came_from(error):
    with pytest.raises(type(error)) as caught, StepWatch(rank=1, step=4, timeout_seconds=60) as watch:
        list(watch.follow(_raise_after(error)))
    assert caught.value is error
    assert caught.value.__notes__ == ["on rank 1, in step 5"]
