"""The micro-batches of each step for this rank, prepared one step ahead by a thread, with the counts of all ranks."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from data_prep.masking import MaskingRules
from data_prep.shard_format import Block, concatenate_blocks
from pretrain.data.batch import MicroBatch, to_micro_batch
from pretrain.data.masks import Place, draw_masks
from pretrain.data.order import PhaseOrder, RowRun, micro_steps, step_rows, streams_of
from pretrain.data.reader import BlockReader
from pretrain.distributed import FailureElsewhereError, Ranks
from pretrain.seeds import mask_seed

SEQUENCES_AT_ONCE = 4096
"""Sequences whose dynamic masks are drawn in one go: enough to make numpy worth while."""


class WeightedBatch(NamedTuple):
    """A micro-batch, whether it counts (1.0) or fills a rank that is short of a stream (0.0), and its place."""

    batch: MicroBatch
    weight: float
    stream: int
    micro_batch: int  # k-th of this stream in this step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCounts:
    """What a step holds, summed over all ranks. Fillers count in `computed_tokens` only."""

    masked_tokens: int = 0
    pairs: int = 0
    tokens: int = 0
    squared_lengths: int = 0  # sum over instances of tokens squared: what attention costs
    sequences: int = 0
    computed_tokens: int = 0
    sequence_hash: int = 0  # of the content and order of every stream; signed 64 bits, the same for every world size


class StepBatches(NamedTuple):
    """Everything one rank needs for one optimizer step."""

    micro_batches: list[WeightedBatch]
    counts: StepCounts
    reading_seconds: float = 0.0  # what this rank's thread took to prepare them, without waiting for others


def feed_steps(
    order: PhaseOrder,
    reader: BlockReader,
    ranks: Ranks,
    *,
    micro_batch_size: int,
    steps: range,
    masking: MaskingRules | None = None,
) -> Iterator[StepBatches]:
    """Yield what this rank computes in each of the phase's `steps`; `masking` draws the masks that shards do not hold.

    A thread prepares step n + 1 while step n runs and reduces its counts on a gloo group of its own, so that the
    denominators of the loss cost the training stream nothing. Exactly one step is ever ahead, on every rank, so that
    all may leave after the same step. A rank that cannot read says so in that reduction: it raises its error
    (ValueError, OSError), the others FailureElsewhereError, at the same step.
    """

    def prepare(step: int) -> tuple[list[WeightedBatch], StepCounts]:
        return prepare_step(order, reader, ranks, step=step, micro_batch_size=micro_batch_size, masking=masking)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="step-feed") as thread:
        ahead = thread.submit(_prepare_and_reduce, prepare, steps.start, ranks)
        for step in steps:
            batches = ahead.result()
            if step + 1 < steps.stop:
                ahead = thread.submit(_prepare_and_reduce, prepare, step + 1, ranks)
            yield batches


def _prepare_and_reduce(
    prepare: Callable[[int], tuple[list[WeightedBatch], StepCounts]], step: int, ranks: Ranks
) -> StepBatches:
    failure: Exception | None = None
    batches: list[WeightedBatch] = []
    counts = StepCounts()
    started = time.perf_counter()
    try:
        batches, counts = prepare(step)
    except (ValueError, OSError) as error:
        failure = error
    reading_seconds = time.perf_counter() - started
    return StepBatches(batches, _reduce(counts, failure, ranks), reading_seconds)


def prepare_step(
    order: PhaseOrder,
    reader: BlockReader,
    ranks: Ranks,
    *,
    step: int,
    micro_batch_size: int,
    masking: MaskingRules | None = None,
) -> tuple[list[WeightedBatch], StepCounts]:
    """Return this rank's micro-batches for the phase's step `step`, fillers last, and its own counts."""
    runs = {
        stream: list(step_rows(order, stream=stream, step=step, block_sequences=reader.block_sequences))
        for stream in streams_of(ranks.rank, world_size=ranks.world_size, num_streams=order.num_streams)
    }
    shares = {
        stream: concatenate_blocks([reader.rows(stream, run.shard, run.block, run.rows) for run in of_stream])
        for stream, of_stream in runs.items()
    }
    if masking is not None:
        shares = _draw_masks(shares, runs, order, masking)
    batches = [
        WeightedBatch(to_micro_batch(share.take(np.arange(start, start + micro_batch_size))), 1.0, stream, k)
        for stream, share in shares.items()
        for k, start in enumerate(range(0, order.sequences_per_step, micro_batch_size))
    ]
    needed = micro_steps(
        world_size=ranks.world_size,
        num_streams=order.num_streams,
        sequences_per_step=order.sequences_per_step,
        micro_batch_size=micro_batch_size,
    )
    # A filler is one sequence: the rank must take part in the collectives, not compute for nothing.
    first_row = to_micro_batch(shares[ranks.rank].take(np.arange(1)))
    batches += [WeightedBatch(first_row, 0.0, ranks.rank, k) for k in range(len(batches), needed)]
    counts = _count(shares, batches)
    if ranks.device.type == "cuda":
        batches = [item._replace(batch=item.batch.pin_memory()) for item in batches]
    return batches, counts


def _draw_masks(
    shares: dict[int, Block], runs: dict[int, list[RowRun]], order: PhaseOrder, masking: MaskingRules
) -> dict[int, Block]:
    """Return the streams' shares of a step with masks.

    They are drawn together, as a share may be one sequence, but some thousands at a time, as a step may have millions
    of tokens: drawing takes about 100 bytes a token.
    """
    places: list[Place] = []
    for run in chain.from_iterable(runs.values()):
        seed = mask_seed(order.seed, phase=order.phase, epoch=run.epoch)
        places += [Place(seed, run.shard, run.block, row) for row in run.rows.tolist()]
    unmasked = concatenate_blocks([*shares.values()])
    starts = range(0, len(places), SEQUENCES_AT_ONCE)
    parts = [np.arange(start, min(start + SEQUENCES_AT_ONCE, len(places))) for start in starts]
    masked = concatenate_blocks(
        [draw_masks(unmasked.take(part), masking, places[part[0] : part[-1] + 1]) for part in parts]
    )
    rows = np.arange(len(places)).reshape(len(shares), order.sequences_per_step)
    return {stream: masked.take(own) for stream, own in zip(shares, rows, strict=True)}


def _count(shares: dict[int, Block], batches: list[WeightedBatch]) -> StepCounts:
    lengths = np.concatenate([share.instance_lengths for share in shares.values()]).astype(np.int64)
    hashes = np.array([_hash(stream, share) for stream, share in shares.items()], dtype=np.int64)
    return StepCounts(
        masked_tokens=sum(share.num_masked for share in shares.values()),
        pairs=sum(share.num_instances for share in shares.values() if share.next_sentence_labels is not None),
        tokens=int(lengths.sum()),
        squared_lengths=int((lengths**2).sum()),
        sequences=sum(share.num_sequences for share in shares.values()),
        computed_tokens=sum(len(item.batch.input_ids) for item in batches),
        sequence_hash=int(hashes.sum()),  # wraps around
    )


def _hash(stream: int, share: Block) -> int:
    """Return a signed 64-bit hash of what a stream gives to a step: its token ids, lengths and their order.

    The ids are those the model sees, masks and all: equal hashes tell that drawn masks are equal too.
    """
    digest = blake2b(f"stream {stream}:".encode(), digest_size=8)
    for column in (share.sequence_instances, share.instance_lengths, share.input_ids):
        digest.update(np.ascontiguousarray(column, dtype="<u4").tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _reduce(counts: StepCounts, failure: Exception | None, ranks: Ranks) -> StepCounts:
    """Return the counts summed over ranks. Raises this rank's `failure`, or says that another rank has one."""
    names = [field.name for field in fields(StepCounts)]
    values = [getattr(counts, name) for name in names]
    vector = torch.tensor([*values, int(failure is not None)], dtype=torch.int64)
    dist.all_reduce(vector, group=ranks.data_group)
    *sums, failures = vector.tolist()
    if failure is not None:
        raise failure
    if failures:
        raise FailureElsewhereError(f"{failures} other ranks could not read their data")
    return StepCounts(**dict(zip(names, sums, strict=True)))
