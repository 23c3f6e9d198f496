"""Saves that fail in the middle of a run cost a warning; a failed last one is an error."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from pretrain.checkpoint.save import list_tags
from pretrain.distributed import Ranks
from pretrain.track.metrics_file import read_metrics
from tests.distributed.runs import train_run
from tests.distributed.saves import (
    KEEP_ALL,
    command,
    found_step,
    full_disk,
    little_space,
    no_directory,
    results,
    same_weights,
)
from tests.integration.ranks import run_ranks

OBSTACLES = {
    "full disk": (1, full_disk, r"cannot write \S*rank-00001\.safetensors: .*File too large"),
    "little space": (0, little_space, r"checkpoints has 0\.000 GB free, a checkpoint takes up to 0\.\d+ GB"),
    "no directory": (0, no_directory, r"No such file or directory: '\S*/checkpoints'"),
}


def train_over(ranks: Ranks, shards: Path, run_dir: Path, obstacle: str, steps: list[int], *overrides: str) -> str:
    """Train while saves of `steps` meet an obstacle; return what the rank printed, its error last."""
    rank, make, _ = OBSTACLES[obstacle]
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), make(steps, run_dir) if ranks.rank == rank else contextlib.nullcontext():
        try:
            train_run(ranks, shards, run_dir, *KEEP_ALL, *overrides)
        except (OSError, ValueError) as error:
            return f"{printed.getvalue()}\n{type(error).__name__}: {error}"
    return printed.getvalue()


@pytest.fixture(scope="module")
def calm(worker_group, shards, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("calm") / "run"
    worker_group(2).run(train_run, shards, run_dir, *KEEP_ALL, "stop_after=10")
    return run_dir


@pytest.mark.parametrize(
    ("obstacle", "asynchronous"), [*((obstacle, "true") for obstacle in OBSTACLES), ("full disk", "false")]
)
def test_a_failed_save_costs_a_warning_and_nothing_else(worker_group, shards, calm, tmp_path, obstacle, asynchronous):
    group, overrides = worker_group(2), ["stop_after=10", f"checkpoint.asynchronous={asynchronous}"]
    first, second = group.run(train_over, shards, tmp_path / "run", obstacle, [6], *overrides)
    (warning,) = [line for line in first.splitlines() if line.startswith("WARNING")]
    assert re.search(OBSTACLES[obstacle][2], warning), warning
    for part in ("step-00000006 was not saved", "free or mend", "next try is after step 8"):
        assert part in warning
    assert ("go on from step-00000004" in warning) == (obstacle != "no directory")
    assert second == ""
    checkpoints = tmp_path / "run" / "checkpoints"
    assert list_tags(checkpoints) == ["step-00000002", "step-00000004", "step-00000008", "step-00000010"]
    assert not list(checkpoints.glob(".*")), "nothing half-written stays"
    assert results(tmp_path / "run") == results(calm)
    assert same_weights(tmp_path / "run", calm)
    failures = [record.get("save_failures") for record in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert failures[:6] == [None] * 6
    assert failures[-1] == 1
    for tag in ("step-00000008", "step-00000010"):
        shutil.rmtree(checkpoints / tag)
    assert group.run(found_step, checkpoints) == [4, 4], "the old one is sound"


@pytest.mark.parametrize("obstacle", ["full disk", "little space"])
def test_a_failed_last_save_is_an_error_on_every_rank_that_says_where_the_run_goes_on(
    worker_group, shards, tmp_path, obstacle
):
    group, (rank, _, reason) = worker_group(2), OBSTACLES[obstacle]
    outputs = group.run(train_over, shards, tmp_path / "run", obstacle, [5], "stop_after=5")
    kinds = ["FailureElsewhereError"] * 2
    kinds[rank] = "OSError"
    for kind, output in zip(kinds, outputs, strict=True):
        assert "WARNING" not in output
        assert re.search(rf"\n{kind}: the last checkpoint, of step 5, was not saved: \S*.*{reason}", output), output
        assert output.endswith("the same command goes on from step-00000004")
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_the_command_ends_with_2_when_its_last_save_fails_and_goes_on_from_the_one_before(shards, tmp_path):
    arguments = command(shards, tmp_path / "run", "stop_after=5")
    in_the_way = tmp_path / "run" / "checkpoints" / ".step-00000005.tmp"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("not a directory")
    outcomes = run_ranks(2, arguments, timeout_seconds=200)
    assert [code for code, _ in outcomes] == [2, 2]
    errors = [line for _, output in outcomes for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(r"last checkpoint, of step 5, .*File exists.*goes on from step-00000004$", errors[0]), errors[0]
    assert "Traceback" not in "".join(output for _, output in outcomes)
    in_the_way.unlink()
    outcomes = run_ranks(2, arguments, timeout_seconds=200)
    assert [code for code, _ in outcomes] == [0, 0]
    assert "from step-00000004" in outcomes[0][1]
    assert list_tags(in_the_way.parent)[-1] == "step-00000005"
