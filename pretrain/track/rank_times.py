"""Every so often: own times and memory of all ranks on rank 0, as metrics, and a word on a rank that is slow."""

import math
import resource
from collections.abc import Callable, Iterator, Sequence
from statistics import median_low
from typing import NamedTuple

import torch
import torch.distributed as dist

from pretrain.distributed import Ranks
from pretrain.step import StepResult
from pretrain.track.metrics import Record
from pretrain.tracking_config import TrackingConfig

SLOW_FACTOR = 1.5  # times the median rank
MIN_STEPS = 20  # that a mean is of before anybody is named by it: in a few steps one hiccup makes any rank slow
MIN_COST_SHARE = 0.05  # of a step: what a slow rank must cost before anybody hears of it


class RankMeans(NamedTuple):
    """What one rank tells of its latest steps: means over them, and its peak since the start."""

    forward_seconds: float  # per step; NaN where it cannot be told from waiting
    reading_seconds: float  # per step
    memory_bytes: float


class SlowRank(NamedTuple):
    """A rank that the others wait for."""

    rank: int
    what: str  # takes it long, in words
    seconds: float  # a step
    median_seconds: float


class RankTimes:
    """Compares the ranks after every `tracking.ranks_every` steps or so. All ranks build and call it together.

    A gather takes 24 bytes of each rank to rank 0, which tells (title, text) of a rank that has become slow and names
    its host, one of `hosts` (each rank's, on rank 0). Means are over the steps since the last comparison; where those
    are fewer than `MIN_STEPS` they count on, and name nobody yet.
    """

    def __init__(
        self,
        config: TrackingConfig,
        ranks: Ranks,
        hosts: Sequence[str],
        *,
        zero_stage: int,
        total_steps: int,
        tell: Callable[[str, str], None],
    ) -> None:
        self._every, self._log_every, self._total_steps = config.ranks_every, config.log_every, total_steps
        self._ranks, self._hosts, self._tell = ranks, hosts, tell
        # At stage 3 forward passes gather weights, and all ranks wait in them for the slowest.
        self._forward_is_own = zero_stage < 3
        self._step = 0
        self._told: set[tuple[int, str]] = set()  # who was named, and for what, since all were well
        self._begin_anew()

    def follow(self, steps: Iterator[StepResult]) -> Iterator[StepResult]:
        """Yield the results of `steps`, and add up this rank's own times."""
        for number, result in enumerate(steps):
            if number == 1:  # the first one loads libraries and kernels: it tells nothing of a rank's speed
                self._begin_anew()
            self._step = result.state.step
            self._forward += result.own_times.forward
            self._reading += result.own_times.reading
            self._seconds += result.sums.seconds
            self._steps += 1
            yield result

    def compare(self) -> Record:
        """Return, on rank 0, the metrics of `compare_ranks` for the latest steps, if a comparison is due.

        Call it on all ranks for each line of metrics: whether one is due depends on the step alone.
        """
        if not comparison_due(self._step, every=self._every, log_every=self._log_every, total_steps=self._total_steps):
            return {}
        forward = self._forward / self._steps if self._forward_is_own else math.nan
        means = self._gather(RankMeans(forward, self._reading / self._steps, peak_memory_bytes(self._ranks.device)))
        if self._steps >= MIN_STEPS:
            if self._ranks.is_first:
                self._report(slow_rank(means, self._seconds / self._steps), self._steps)
            self._begin_anew()
        return compare_ranks(means) if self._ranks.is_first else {}

    def _begin_anew(self) -> None:
        self._forward = self._reading = self._seconds = 0.0
        self._steps = 0

    def _gather(self, mine: RankMeans) -> list[RankMeans]:
        values = torch.tensor(mine, dtype=torch.float64)
        rows = [torch.empty_like(values) for _ in range(self._ranks.world_size)] if self._ranks.is_first else None
        dist.gather(values, rows, dst=0, group=self._ranks.control_group)
        return [RankMeans(*row.tolist()) for row in rows or []]

    def _report(self, slow: SlowRank | None, steps: int) -> None:
        """Tell of each slow rank once, and again after all were well: of two, now one and now the other is slowest."""
        if slow is None:
            self._told.clear()
            return
        if (slow.rank, slow.what) in self._told:
            return
        self._told.add((slow.rank, slow.what))
        self._tell(
            f"rank {slow.rank} is slow",
            f"rank {slow.rank} on {self._hosts[slow.rank]} is slow: {slow.what} {slow.seconds:.3f} s a step, those of "
            f"the median rank {slow.median_seconds:.3f} s (mean of {steps} steps); all ranks wait for it",
        )


def comparison_due(step: int, *, every: int, log_every: int, total_steps: int) -> bool:
    """Return whether ranks are compared with the line of metrics of `step`: it depends on nothing but the step.

    They are at the run's first regular line, its last, and the first one at or after each multiple of `every`.
    """
    if every == 0:
        return False
    crossed = step // every > (step - log_every) // every
    return step == total_steps or (step % log_every == 0 and (crossed or step == log_every))


def compare_ranks(means: Sequence[RankMeans]) -> Record:
    """Return `slowest_rank`, `slowest_rank_seconds`, `median_rank_seconds` of forward passes, per step.

    And `slowest_reader`, `slowest_reader_seconds`, `median_reader_seconds` of preparing data, per step, and
    `memory_gb` (10^9 bytes), the highest peak of any rank. Medians are the lower ones: of two ranks, the faster. One
    rank alone is compared with nobody: of it there is the memory only.
    """
    record: Record = {"memory_gb": max(mean.memory_bytes for mean in means) / 1e9}
    for name, seconds in (
        ("rank", [mean.forward_seconds for mean in means]),
        ("reader", [mean.reading_seconds for mean in means]),
    ):
        if len(means) > 1 and not math.isnan(seconds[0]):
            record[f"slowest_{name}"] = seconds.index(max(seconds))
            record[f"slowest_{name}_seconds"] = max(seconds)
            record[f"median_{name}_seconds"] = median_low(seconds)
    return record


def slow_rank(means: Sequence[RankMeans], step_seconds: float) -> SlowRank | None:
    """Return the rank that notably holds the others up, `SLOW_FACTOR` times slower than their median; None if none.

    A slow reader is one that takes about as long as a step: until then it reads beside the step before.
    """
    forward = [mean.forward_seconds for mean in means]
    reading = [mean.reading_seconds for mean in means]
    forward_is_costly = max(forward) - median_low(forward) >= MIN_COST_SHARE * step_seconds  # NaN never is
    reading_is_costly = max(reading) >= (1 - MIN_COST_SHARE) * step_seconds
    for what, seconds, is_costly in (
        ("its forward passes take", forward, forward_is_costly),
        ("reading its data takes", reading, reading_is_costly),
    ):
        slowest, typical = max(seconds), median_low(seconds)
        if is_costly and slowest >= SLOW_FACTOR * typical:
            return SlowRank(seconds.index(slowest), what, slowest, typical)
    return None


def peak_memory_bytes(device: torch.device) -> float:
    """Return the most memory this process has held: of its GPU's, what tensors took; on a CPU, resident memory."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0  # Linux counts in KiB
