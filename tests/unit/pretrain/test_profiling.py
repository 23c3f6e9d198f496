"""Traces hold the steps that were asked for, and nothing is touched where none were."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.distributed import Ranks
from pretrain.phases import RunState
from pretrain.step import StepResult
from pretrain.track.metrics import StepSums
from pretrain.track.profiling import profiled
from pretrain.tracking_config import ProfileConfig, require_profiled_ranks

SUMS = StepSums(**dict.fromkeys(StepSums.__dataclass_fields__, 0))


def steps(first: int, last: int) -> Iterator[StepResult]:
    """Yield steps whose work is recorded under their number."""
    for step in range(first, last + 1):
        with torch.profiler.record_function(f"work of step {step}"):
            torch.ones(10).sum()
        yield StepResult(state=RunState(step=step), sums=SUMS, values={}, note=None, stop_requested=False)


def ranks(rank: int = 0, world_size: int = 4) -> Ranks:
    group: Any = None
    return Ranks(
        rank=rank,
        world_size=world_size,
        device=torch.device("cpu"),
        control_group=group,
        data_group=group,
        save_group=group,
    )


def profile(
    run_dir: Path, wanted: list[int] | None, *, start_step: int = 0, last: int = 8, leave_after: int = 99
) -> tuple[list[int], list[str]]:
    """Run to `last` or leave before; return the steps that came out, and what was told."""
    told: list[str] = []
    config = ProfileConfig(steps=wanted, ranks=[0, 2])
    followed = profiled(
        steps(start_step + 1, last), config, ranks(), run_dir=run_dir, start_step=start_step, tell=told.append
    )
    seen = []
    for result in followed:
        seen.append(result.state.step)
        if result.state.step == leave_after:
            break
    del followed
    return seen, told


def traced_steps(trace: Path) -> set[int]:
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name", "") for event in events}
    return {int(name.rpartition(" ")[2]) for name in names if name.startswith("work of step")}


def traces(run_dir: Path) -> dict[str, set[int]]:
    return {path.name: traced_steps(path) for path in (run_dir / "profile").iterdir()}


def test_a_trace_holds_its_steps_from_the_first_to_the_last(tmp_path: Path) -> None:
    seen, told = profile(tmp_path, [3, 5])
    assert seen == list(range(1, 9))
    assert traces(tmp_path) == {"steps-00000003-00000005-rank-00000.json.gz": {3, 4, 5}}
    assert told == [f"profile of steps 3 to 5 of rank 0: {tmp_path}/profile/steps-00000003-00000005-rank-00000.json.gz"]


def test_a_resume_inside_the_range_traces_the_rest(tmp_path: Path) -> None:
    profile(tmp_path, [3, 5], start_step=3)
    assert traces(tmp_path) == {"steps-00000004-00000005-rank-00000.json.gz": {4, 5}}


@pytest.mark.parametrize(("last", "leave_after"), [(8, 4), (4, 99)])
def test_a_run_that_leaves_inside_the_range_writes_what_there_is(tmp_path: Path, last: int, leave_after: int) -> None:
    profile(tmp_path, [3, 5], last=last, leave_after=leave_after)
    assert traces(tmp_path) == {"steps-00000003-00000004-rank-00000.json.gz": {3, 4}}


@pytest.mark.parametrize(
    ("wanted", "rank", "start_step"),
    [(None, 0, 0), ([3, 5], 1, 0), ([3, 5], 0, 5)],
    ids=["off", "another rank", "over already"],
)
def test_where_nothing_is_traced_the_steps_are_left_alone(
    tmp_path: Path, wanted: list[int] | None, rank: int, start_step: int
) -> None:
    source = steps(start_step + 1, start_step + 3)
    config = ProfileConfig(steps=wanted, ranks=[0, 2])
    assert profiled(source, config, ranks(rank), run_dir=tmp_path, start_step=start_step, tell=print) is source
    assert not (tmp_path / "profile").exists()


def test_a_trace_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("no folder")
    seen, told = profile(tmp_path, [2, 3])
    assert seen == list(range(1, 9))
    assert len(told) == 1
    assert told[0].startswith("WARNING: the trace ")


@pytest.mark.parametrize("wanted", [[], [3], [5, 3], [0, 3], [1, 2, 3]])
def test_a_range_is_two_ascending_steps(wanted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"profile\.steps=.* the first and the last step as \[10,12\]"):
        ProfileConfig(steps=wanted, ranks=[0])


def test_a_rank_that_the_run_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"profile\.ranks=\[0, 9\] is not valid: this run has the ranks 0 to 3"):
        require_profiled_ranks(ProfileConfig(steps=[1, 2], ranks=[0, 9]), 4)
    require_profiled_ranks(ProfileConfig(steps=None, ranks=[0, 9]), 4)
    with pytest.raises(ValueError, match=r"profile\.ranks"):
        ProfileConfig(steps=[1, 2], ranks=[-1])
