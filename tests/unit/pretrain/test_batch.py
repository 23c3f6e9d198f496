import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.shard_format import Block
from pretrain.data.batch import to_micro_batch
from tests.shards import random_block


def block_of(seed: int, sequences: int) -> Block:
    return random_block(np.random.default_rng(seed), sequences=sequences, vocab_size=64, max_length=20)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), sequences=st.integers(1, 12))
def test_flat_batch_is_the_instances_one_after_another(seed: int, sequences: int) -> None:
    block = block_of(seed, sequences)
    batch = to_micro_batch(block)
    positions, types, masked, starts, first, first_masked = [], [], [], [], 0, 0
    for i, length in enumerate(block.instance_lengths):
        for position in range(length):
            positions.append(position)
            types.append(int(position >= block.segment_a_lengths[i]))
        for _ in range(block.masked_lm_counts[i]):
            masked.append(first + block.masked_lm_positions[first_masked])
            first_masked += 1
        starts.append(first)
        first += length
    assert batch.input_ids.tolist() == block.input_ids.tolist()
    assert batch.position_ids.tolist() == positions
    assert batch.token_type_ids.tolist() == types
    assert batch.masked_positions.tolist() == masked
    assert batch.masked_lm_ids.tolist() == block.masked_lm_ids.tolist()
    assert batch.cu_seqlens.tolist() == [*starts, first]
    assert batch.instance_lengths == tuple(block.instance_lengths)
    assert batch.next_sentence_labels.tolist() == block.next_sentence_labels.tolist()
    assert batch.cu_seqlens.dtype == torch.int32
    assert {x.dtype for x in batch if isinstance(x, torch.Tensor) and x is not batch.cu_seqlens} == {torch.int64}


def test_packing_changes_nothing_in_the_batch() -> None:
    block = block_of(3, 6)
    packed = dataclasses.replace(block, sequence_instances=np.array([1, 3, 2]))
    for ours, theirs in zip(to_micro_batch(block), to_micro_batch(packed), strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_block_without_pairs_gives_no_labels() -> None:
    block = dataclasses.replace(block_of(1, 3), next_sentence_labels=None)
    assert to_micro_batch(block).next_sentence_labels is None


def test_block_without_masks_is_refused() -> None:
    block = dataclasses.replace(block_of(1, 3), masked_lm_counts=None, masked_lm_positions=None, masked_lm_ids=None)
    with pytest.raises(ValueError, match=r"no masks, but its manifest does not say masking\.kind=dynamic"):
        to_micro_batch(block)


def test_moving_keeps_every_field() -> None:
    batch = to_micro_batch(block_of(1, 3))
    moved = batch.to(torch.device("meta"))
    assert moved.instance_lengths == batch.instance_lengths
    for here, there in zip(batch, moved, strict=True):
        if isinstance(here, torch.Tensor):
            assert (there.device.type, there.shape, there.dtype) == ("meta", here.shape, here.dtype)
