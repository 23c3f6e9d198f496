"""A rank that hangs, dies or raises takes the others down, each with a message that names the step."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed.runs import TINY, engine_overrides
from tests.distributed.workers import free_port, rank_environment
from tests.integration.misbehaving_rank import STEP
from tests.integration.ranks import ROOT, start_ranks, wait_for
from tests.shards import write_shards

TIMEOUT_SECONDS = 10
WAIT_SECONDS = 240  # a hang, which ends in TimeoutExpired


@pytest.fixture
def shards(tmp_path) -> Path:
    return write_shards(tmp_path / "shards")


def start(shards: Path, rank: int, how: str) -> list[subprocess.Popen[str]]:
    arguments = [
        *(f"shards_dir={shards}", f"run_dir={shards.parent / 'run'}", *TINY, *engine_overrides(2, "fp32")),
        *("max_steps=100000", "checkpoint.save_every=1", f"engine.collective_timeout_seconds={TIMEOUT_SECONDS}"),
    ]
    return start_ranks(2, [str(rank), how, *arguments], module="tests.integration.misbehaving_rank")


def status_of(shards: Path) -> dict:
    return json.loads((shards.parent / "run" / "status.json").read_text())


def error_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_a_bug_in_one_rank_ends_the_other_and_shows_its_own_traceback(shards):
    (code, output), (failing_code, failing_output) = wait_for(start(shards, rank=1, how="raise"), WAIT_SECONDS)
    assert (code, failing_code) == (1, 1)
    assert "in raise_a_bug" in failing_output
    assert error_lines(failing_output) == [f"error: TypeError: a bug in one rank (on rank 1, in step {STEP})"]
    (error,) = error_lines(output)
    assert re.search(rf"rank 0, step {STEP}, .*: another rank has ended.*same command goes on", error)
    assert "Traceback" not in output
    status = status_of(shards)
    assert (status["state"], status["step"]) == ("failed", STEP - 1)
    # A bug does not wait for the save that is on its way; the one before it was complete when that began.
    assert status["checkpoint"] in ("step-00000001", "step-00000002")
    assert re.search(rf"step {STEP}, .*: another rank has ended", status["reason"])


def test_a_rank_that_waits_for_one_that_never_comes_can_be_told_to_end(shards):
    port = free_port()
    command = [sys.executable, "-m", "pretrain", f"shards_dir={shards}", f"run_dir={shards.parent / 'run'}", *TINY]
    environment = rank_environment(0, 2, port) | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment) as process:
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_open(port) and time.monotonic() < deadline:  # rank 0 listens there, and waits for the others
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(WAIT_SECONDS) == -signal.SIGTERM
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_rank_killed_while_the_ranks_join_is_missed_at_once(shards):
    (code, output), (killed, _) = wait_for(start(shards, rank=1, how="join"), WAIT_SECONDS)
    assert (code, killed) == (1, -signal.SIGKILL)
    assert re.fullmatch(r"error: rank 0 of 2 could not join .* start them all anew\n", output)


@pytest.mark.parametrize(("rank", "standing"), [(1, "failed"), (0, "running")])
def test_a_rank_killed_in_a_step_is_missed_by_the_other_at_once(shards, rank, standing):
    results = wait_for(start(shards, rank=rank, how="exit"), WAIT_SECONDS)
    code, output = results[1 - rank]
    assert (code, results[rank][0]) == (1, -signal.SIGKILL)
    (error,) = error_lines(output)
    assert re.search(rf"rank {1 - rank}, step {STEP}, .*: another rank has ended", error)
    assert "Traceback" not in output
    assert status_of(shards)["state"] == standing, "rank 0 writes it, and cannot when it is killed itself"


def test_a_frozen_rank_is_reported_with_the_stacks_and_then_given_up(shards):
    processes = start(shards, rank=1, how="freeze")
    try:
        ((code, output),) = wait_for(processes[:1], WAIT_SECONDS)
    finally:
        os.kill(processes[1].pid, signal.SIGKILL)
        processes[1].communicate()
    assert code == 1
    report, _, rest = output.partition(f"rank 0: step {STEP} has not finished for 9 s")
    assert rest, report
    assert "most recent call first" in rest
    assert "all_reduce" in rest, "where the main thread waits"
    (error,) = error_lines(rest)
    assert re.search(
        rf"rank 0, step {STEP}, .*: another rank hangs.*collective_timeout_seconds={TIMEOUT_SECONDS}", error
    )
    assert "Traceback (most recent call last)" not in output


def test_a_rank_that_sleeps_too_long_finds_the_others_gone(shards):
    (code, output), (slow_code, slow_output) = wait_for(start(shards, rank=1, how="sleep"), WAIT_SECONDS)
    assert (code, slow_code) == (1, 1)
    assert re.search(rf"rank 0, step {STEP}, .*: another rank hangs", *error_lines(output))
    assert re.search(rf"rank 1, step {STEP}, .*: another rank has ended", *error_lines(slow_output))
    assert "in sleep_too_long" in slow_output.partition("has not finished")[2], "its own report says where it was"
