"""A torch profiler trace of some steps, on some ranks: `RUN_DIR/profile/*.json.gz`, for Perfetto or chrome://tracing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from pretrain.distributed import Ranks
from pretrain.step import StepResult
from pretrain.tracking_config import ProfileConfig

PROFILE_DIR = "profile"


def profiled(
    steps: Iterator[StepResult],
    config: ProfileConfig,
    ranks: Ranks,
    *,
    run_dir: Path,
    start_step: int,
    tell: Callable[[str], None],
) -> Iterator[StepResult]:
    """Return `steps`, traced as far as `config` asks for it on this rank; where it does not, the very iterator.

    `start_step` is the number of steps already done. A trace that cannot be written costs a warning, given to `tell`.
    """
    if config.steps is None:
        return steps
    first, last = config.steps
    if ranks.rank not in config.ranks or start_step >= last:
        return steps
    return _trace(steps, run_dir / PROFILE_DIR, max(first, start_step + 1), last, start_step, ranks, tell)


def _trace(
    steps: Iterator[StepResult],
    directory: Path,
    first: int,
    last: int,
    done: int,
    ranks: Ranks,
    tell: Callable[[str], None],
) -> Iterator[StepResult]:
    """Yield `steps`; trace those from `first` to `last`, fewer when the run leaves before, and what lies between."""
    profiler: Any = None
    try:
        while True:
            if done + 1 == first:
                profiler = _start(ranks.device)
            result = next(steps, None)
            if result is None:
                return
            done = result.state.step
            if profiler is not None and done == last:
                _write(profiler, directory, first, done, ranks, tell)
                profiler = None
            yield result
    finally:
        if profiler is not None:
            _write(profiler, directory, first, done, ranks, tell)


def _start(device: torch.device) -> Any:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities, record_shapes=True)
    profiler.start()
    return profiler


def _write(profiler: Any, directory: Path, first: int, last: int, ranks: Ranks, tell: Callable[[str], None]) -> None:
    path = directory / f"steps-{first:08d}-{last:08d}-rank-{ranks.rank:05d}.json.gz"
    try:
        profiler.stop()
        directory.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:
        tell(f"WARNING: the trace {path} was not written: {error}")
    else:
        tell(f"profile of steps {first:,} to {last:,} of rank {ranks.rank}: {path}")
