"""The order of the data, without any process: disjoint, complete, stable, and the same for every world size."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.order import PhaseOrder, filler_share, micro_steps, step_rows, stream_spans, streams_of

GOLDEN = [
    [(0, 0, 2), (0, 0, 1)],
    [(0, 0, 0), (0, 1, 0)],
    [(0, 0, 2), (0, 0, 1)],
    [(0, 1, 1), (1, 0, 3)],
    [(1, 0, 0), (1, 0, 1)],
    [(0, 1, 0), (1, 0, 3)],
]
SHARDS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5)


def sequences(order: PhaseOrder, blocks: list[list[int]], stream: int, step: int) -> list[tuple[int, int, int]]:
    runs = step_rows(order, stream=stream, step=step, block_sequences=lambda shard: np.array(blocks[shard]))
    return [(run.shard, run.block, int(row)) for run in runs for row in run.rows]


def make_order(blocks: list[list[int]], streams: int, share: int, seed: int = 1) -> PhaseOrder:
    sizes = tuple(sum(shard) for shard in blocks)
    return PhaseOrder(seed=seed, phase=0, shard_sequences=sizes, num_streams=streams, global_batch_size=streams * share)


@settings(max_examples=60)
@given(blocks=SHARDS, streams=st.integers(1, 6), seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_every_sequence_is_read_at_most_once_per_epoch_and_all_but_a_remainder(blocks, streams, seed, epoch):
    if sum(map(sum, blocks)) < streams:
        return
    order = make_order(blocks, streams, share=1, seed=seed)
    steps = range(epoch * order.stream_length, (epoch + 1) * order.stream_length)
    read = Counter(item for c in range(streams) for step in steps for item in sequences(order, blocks, c, step))
    everything = {(s, b, r) for s, shard in enumerate(blocks) for b, size in enumerate(shard) for r in range(size)}
    assert set(read) <= everything
    assert max(read.values()) == 1
    assert len(everything) - len(read) == order.left_out == order.num_sequences % streams


@settings(max_examples=60)
@given(blocks=SHARDS, streams=st.integers(1, 4), share=st.integers(1, 7))
def test_the_batch_size_cuts_the_stream_and_does_not_reorder_it(blocks, streams, share):
    if sum(map(sum, blocks)) < streams:
        return
    one, many = make_order(blocks, streams, 1), make_order(blocks, streams, share)
    for stream in range(streams):
        singly = [item for step in range(5 * share) for item in sequences(one, blocks, stream, step)]
        at_once = [item for step in range(5) for item in sequences(many, blocks, stream, step)]
        assert singly == at_once


def test_the_order_is_stable_forever():
    """Golden: a change here would break the resume of every run in the world."""
    order = make_order([[3, 2], [4]], streams=2, share=2, seed=7)
    read = [sequences(order, [[3, 2], [4]], stream, step) for stream in range(2) for step in range(3)]
    assert read == GOLDEN


def test_epochs_and_phases_are_shuffled_differently():
    blocks = [[8, 8], [8, 8], [8, 8]]
    order = make_order(blocks, streams=1, share=48)
    first, second = sequences(order, blocks, 0, 0), sequences(order, blocks, 0, 1)
    assert sorted(first) == sorted(second)
    assert first != second
    sizes = tuple(sum(shard) for shard in blocks)
    other = PhaseOrder(seed=1, phase=1, shard_sequences=sizes, num_streams=1, global_batch_size=48)
    assert sequences(other, blocks, 0, 0) != first


@given(world=st.integers(1, 40), streams=st.integers(1, 40))
def test_streams_are_shared_out_completely_and_no_rank_runs_fewer_micro_steps(world, streams):
    if world > streams:
        return
    owned = [streams_of(rank, world_size=world, num_streams=streams) for rank in range(world)]
    assert sorted(c for mine in owned for c in mine) == list(range(streams))
    steps = micro_steps(world_size=world, num_streams=streams, sequences_per_step=6, micro_batch_size=3)
    assert steps == max(len(mine) for mine in owned) * 2
    real = sum(len(mine) for mine in owned) * 2
    assert filler_share(world_size=world, num_streams=streams) == pytest.approx(1 - real / (steps * world))


def test_a_step_may_cross_epochs():
    order = make_order([[5]], streams=1, share=7)
    assert list(stream_spans(order, 0)) == [(0, 0, 5), (1, 0, 2)]
    assert list(stream_spans(order, 1)) == [(1, 2, 3), (2, 0, 4)]


def test_a_far_position_opens_only_the_shards_it_touches():
    opened: list[int] = []

    def block_sequences(shard: int) -> np.ndarray:
        opened.append(shard)
        return np.array([256] * 40)

    order = PhaseOrder(seed=0, phase=0, shard_sequences=(10240,) * 5000, num_streams=64, global_batch_size=4096)
    runs = list(islice(step_rows(order, stream=63, step=100_000, block_sequences=block_sequences), 5))
    assert sum(len(run.rows) for run in runs) == 64
    assert len(opened) <= 2


def test_more_streams_than_sequences_is_an_error():
    with pytest.raises(ValueError, match=r"num_streams=8 is more than the 5 sequences"):
        make_order([[5]], streams=8, share=1)
