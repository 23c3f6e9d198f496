"""Who reads which sequence when: a pure function of (seed, phase, epoch, shard sizes). No process, no state, no I/O.

An epoch lists all R sequences of a phase: shards permuted, blocks permuted inside each shard, rows inside each block.
With C streams and L = R // C, stream c is the run [c·L, (c+1)·L) of that list; R mod C sequences sit the epoch out.
A step takes q = global_batch_size / C consecutive sequences from every stream. Stream c belongs to rank
c mod world_size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.seeds import permutation


class RowRun(NamedTuple):
    """Rows of one block, in reading order."""

    epoch: int
    shard: int  # index into the manifest's list
    block: int  # index into the shard's block index
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseOrder:
    """The order of one phase. Raises ValueError when a stream would be empty."""

    seed: int
    phase: int
    shard_sequences: tuple[int, ...]  # sequences per shard, in manifest order
    num_streams: int
    global_batch_size: int

    def __post_init__(self) -> None:
        if self.stream_length < 1:
            raise ValueError(
                f"data.num_streams={self.num_streams} is more than the {self.num_sequences} sequences of the phase: "
                "every stream needs at least one; lower num_streams or prepare more text"
            )

    @property
    def num_sequences(self) -> int:
        """R: the sequences of all shards."""
        return sum(self.shard_sequences)

    @property
    def stream_length(self) -> int:
        """L: sequences per stream and epoch."""
        return self.num_sequences // self.num_streams

    @property
    def sequences_per_step(self) -> int:
        """q: sequences that every stream gives to a step."""
        return self.global_batch_size // self.num_streams

    @property
    def left_out(self) -> int:
        """Sequences that sit each epoch out (fewer than num_streams; others in other epochs)."""
        return self.num_sequences % self.num_streams

    def epoch_of(self, step: int) -> float:
        """Return how many epochs are read before the phase's step `step`."""
        return step * self.sequences_per_step / self.stream_length


def streams_of(rank: int, *, world_size: int, num_streams: int) -> range:
    """Return the streams that `rank` owns."""
    return range(rank, num_streams, world_size)


def micro_steps(*, world_size: int, num_streams: int, sequences_per_step: int, micro_batch_size: int) -> int:
    """Return the forward passes every rank runs per step; ranks short of a stream fill up at loss weight 0."""
    return -(-num_streams // world_size) * (sequences_per_step // micro_batch_size)


def filler_share(*, world_size: int, num_streams: int) -> float:
    """Return the share of micro-steps of a step that are fillers, 0 when world_size divides num_streams."""
    return 1 - num_streams / (-(-num_streams // world_size) * world_size)


def stream_spans(order: PhaseOrder, step: int) -> Iterator[tuple[int, int, int]]:
    """Yield (epoch, offset in the stream, count) for what each stream gives to `step`; a step may cross epochs."""
    position, left = step * order.sequences_per_step, order.sequences_per_step
    while left:
        epoch, offset = divmod(position, order.stream_length)
        count = min(left, order.stream_length - offset)
        yield epoch, offset, count
        position, left = position + count, left - count


def step_rows(
    order: PhaseOrder, *, stream: int, step: int, block_sequences: Callable[[int], NDArray[np.int64]]
) -> Iterator[RowRun]:
    """Yield the rows that `stream` gives to the phase's step `step`, in order.

    `block_sequences(shard)` returns the sequences per block of a shard, int64 [blocks]; it is called for the shards
    touched only, so that finding a position costs one block index, whatever the step.
    """
    for epoch, offset, count in stream_spans(order, step):
        start = stream * order.stream_length + offset
        yield from _rows(order, epoch, start, start + count, block_sequences)


def _rows(
    order: PhaseOrder, epoch: int, start: int, stop: int, block_sequences: Callable[[int], NDArray[np.int64]]
) -> Iterator[RowRun]:
    shards, shard_ends = _shard_order(order.seed, order.phase, epoch, order.shard_sequences)
    for place, low, high in _overlaps(shard_ends, start, stop):
        shard = int(shards[place])
        seeds = (order.seed, order.phase, epoch, shard)
        sizes = block_sequences(shard)
        blocks = permutation(len(sizes), *_named(seeds))
        for block_place, first, last in _overlaps(np.cumsum(sizes[blocks]), low, high):
            block = int(blocks[block_place])
            rows = permutation(int(sizes[block]), *_named((*seeds, block)))
            yield RowRun(epoch, shard, block, rows[first:last])


@lru_cache(maxsize=4)
def _shard_order(
    seed: int, phase: int, epoch: int, shard_sequences: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the permuted shards and where each ends in the epoch's list; cached: steps of one epoch share it."""
    shards = permutation(len(shard_sequences), *_named((seed, phase, epoch)))
    return shards, np.cumsum(np.asarray(shard_sequences, dtype=np.int64)[shards])


def _named(numbers: tuple[int, ...]) -> tuple[int | str, ...]:
    """Return the seed parts for (seed, phase, epoch[, shard[, block]])."""
    return ("order", *numbers)


def _overlaps(ends: NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (item, low, high) for the items that [start, stop) touches, low and high counted inside the item.

    `ends` are the cumulative sizes of items laid end to end.
    """
    place = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        begin = int(ends[place - 1]) if place else 0
        high = min(stop, int(ends[place]))
        if high > start:
            yield place, start - begin, high - begin
        start, place = high, place + 1
