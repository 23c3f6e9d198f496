"""Saving beside the training: what is written, and what the training notices of it."""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from pretrain.checkpoint import saver as saver_module
from pretrain.checkpoint.restore import load_full_weights, newest_checkpoint
from pretrain.checkpoint.save import COMPLETE_NAME, list_tags, tag_of, write_checkpoint
from pretrain.distributed import Ranks
from pretrain.phases import RunState
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import engine_overrides, full_weights, tiny_config, tiny_engine, train_run
from tests.distributed.saves import KEEP_ALL, command, found_step, open_saver, results, same_weights
from tests.integration.ranks import run_ranks, start_ranks, wait_for


@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16")])
def test_asynchronous_saves_write_the_bytes_that_waiting_ones_do(worker_group, shards, tmp_path, stage, precision):
    for asynchronous in ("true", "false"):
        overrides = [*KEEP_ALL, *engine_overrides(stage, precision), f"checkpoint.asynchronous={asynchronous}"]
        worker_group(2).run(train_run, shards, tmp_path / asynchronous, *overrides, "stop_after=6")
    for tag in ("step-00000002", "step-00000004", "step-00000006"):
        one, other = (tmp_path / asynchronous / "checkpoints" / tag for asynchronous in ("true", "false"))
        names = sorted(path.name for path in one.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        assert len(names) == 5
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names if name != COMPLETE_NAME)
        accounts = [json.loads((path / COMPLETE_NAME).read_text()) for path in (one, other)]
        assert accounts[0].pop("run") != accounts[1].pop("run"), "the configs differ"
        assert accounts[0] == accounts[1]


def test_files_of_a_checkpoint_are_as_readable_as_their_directory(worker_group, shards, tmp_path):
    worker_group(1).run(train_run, shards, tmp_path / "run", *engine_overrides(0, "fp32"), "stop_after=1")
    tag = newest_checkpoint(tmp_path / "run")
    modes = {path.stat().st_mode & 0o666 for path in tag.iterdir()}
    assert modes == {tag.stat().st_mode & 0o666}


def test_a_run_that_saves_after_every_step_computes_what_one_that_never_saves_does(worker_group, shards, tmp_path):
    engine = engine_overrides(1, "bf16")
    worker_group(2).run(train_run, shards, tmp_path / "never", *engine)
    worker_group(2).run(train_run, shards, tmp_path / "always", *engine, "checkpoint.save_every=1")
    assert results(tmp_path / "always") == results(tmp_path / "never")
    assert same_weights(tmp_path / "always", tmp_path / "never")
    stalls = [record.get("save_stall_seconds") for record in read_metrics(tmp_path / "always" / "metrics.jsonl")]
    assert [stall is not None for stall in stalls] == [False] + [True] * 19


def change_everything_while_a_save_is_written(ranks: Ranks, directory: Path) -> list[tuple[bool, bool]]:
    """Hold back the writing, change weights and moments in place, leave by an error; twice. Return what was saved."""
    config = tiny_config(directory, directory, *engine_overrides(1, "fp32"), "checkpoint.keep_last=2")
    engine = tiny_engine(config, ranks)
    outcomes = []
    for step in (3, 4):
        before, gate = full_weights(engine, ranks), threading.Event()

        def write(*arguments, gate=gate):
            gate.wait()
            write_checkpoint(*arguments)

        with (
            patch.object(saver_module, "write_checkpoint", write),
            contextlib.suppress(ValueError),
            open_saver(directory, config, engine, ranks) as saver,
        ):
            saver.save(RunState(step=step), last=False)
            with torch.no_grad():
                for fragment in engine.layout.fragments:
                    fragment.cut(fragment.flat).add_(1.0)
            unfinished = not (directory / tag_of(step)).exists()
            threading.Timer(0.2, gate.set).start()
            raise ValueError
        saved = load_full_weights(directory / tag_of(step))
        outcomes.append((unfinished, all(torch.equal(saved[name], before[name]) for name in before)))
    return outcomes


def test_a_save_is_of_its_moment_and_is_finished_when_an_error_of_all_ranks_ends_the_run(worker_group, tmp_path):
    outcomes = worker_group(2).run(change_everything_while_a_save_is_written, tmp_path)
    assert outcomes == [[(True, True)] * 2] * 2


def leave_by_a_bug_while_a_save_is_written(ranks: Ranks, directory: Path) -> bool:
    config = tiny_config(directory, directory, *engine_overrides(1, "fp32"))
    gate = threading.Event()
    with (
        patch.object(saver_module, "write_checkpoint", lambda *arguments: gate.wait()),
        contextlib.suppress(ZeroDivisionError),
        open_saver(directory, config, tiny_engine(config, ranks), ranks) as saver,
    ):
        saver.save(RunState(step=3), last=False)
        raise ZeroDivisionError
    left_before_the_save_was_over = not gate.is_set()
    gate.set()
    return left_before_the_save_was_over


def test_a_bug_ends_a_rank_at_once_whatever_is_being_written(worker_group, tmp_path):
    assert worker_group(2).run(leave_by_a_bug_while_a_save_is_written, tmp_path) == [True, True]


def meet_a_bug_in_the_thread(ranks: Ranks, directory: Path) -> list[str]:
    config = tiny_config(directory, directory, *engine_overrides(0, "fp32"))
    said = []
    with (
        patch.object(saver_module, "write_checkpoint", side_effect=RuntimeError("a bug")),
        open_saver(directory, config, tiny_engine(config, ranks), ranks) as saver,
    ):
        saver.save(RunState(step=1), last=False)
        deadline = time.monotonic() + 120
        while not said and time.monotonic() < deadline:
            try:
                saver.metrics()
            except RuntimeError as error:
                said.append(str(error))
        try:
            saver.save(RunState(step=2), last=False)
        except RuntimeError as error:
            said.append(str(error))
    return said


def test_a_bug_in_the_thread_is_not_lost(worker_group, tmp_path):
    assert worker_group(1).run(meet_a_bug_in_the_thread, tmp_path) == [["a bug", "a bug"]]


def test_keep_every_keeps_its_multiples_besides_the_last_ones(worker_group, shards, tmp_path):
    keep = ["checkpoint.save_every=2", "checkpoint.keep_last=1", "checkpoint.keep_every=4", "stop_after=10"]
    worker_group(2).run(train_run, shards, tmp_path / "run", *keep)
    assert list_tags(tmp_path / "run" / "checkpoints") == ["step-00000004", "step-00000008", "step-00000010"]


def test_after_a_kill_inside_an_asynchronous_save_the_same_command_goes_on(worker_group, shards, tmp_path):
    arguments = command(shards, tmp_path / "run", "checkpoint.save_every=1", "max_steps=30")
    checkpoints = tmp_path / "run" / "checkpoints"
    processes = start_ranks(2, arguments)
    try:
        freeze_inside_a_save(processes, checkpoints)
    finally:
        for process in processes:
            process.kill()
    assert [code for code, _ in wait_for(processes)] == [-signal.SIGKILL] * 2
    assert list(checkpoints.glob(".step-*.tmp")), "the kill came inside a save"
    assert 0 < worker_group(2).run(found_step, checkpoints)[0] < 30
    assert [code for code, _ in run_ranks(2, arguments, timeout_seconds=200)] == [0, 0]
    worker_group(2).run(train_run, shards, tmp_path / "whole", *engine_overrides(2, "bf16"), "max_steps=30")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def freeze_inside_a_save(processes: list, checkpoints: Path) -> None:
    """Stop all processes at a moment when a hidden directory is there, after the first complete checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list_tags(checkpoints) and list(checkpoints.glob(".step-*[0-9].tmp")):
            for process in processes:
                os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.05)
            if list(checkpoints.glob(".step-*[0-9].tmp")):
                return
            for process in processes:
                os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    raise TimeoutError(f"no save was seen in {checkpoints}")
