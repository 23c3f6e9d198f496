"""Rows of blocks -> one flat micro-batch of tensors: instances end to end, no padding."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.shard_format import Block


class MicroBatch(NamedTuple):
    """`micro_batch_size` sequences of one stream, flat. All tensors live on one device; indices are int64."""

    input_ids: Tensor  # int64 [tokens]
    token_type_ids: Tensor  # int64 [tokens]
    position_ids: Tensor  # int64 [tokens]: restart at every instance
    cu_seqlens: Tensor  # int32 [instances + 1]: first token of each instance, then the number of tokens
    instance_lengths: tuple[int, ...]  # the same on the host, for attention that groups by length
    masked_positions: Tensor  # int64 [masked]: into the flat tokens
    masked_lm_ids: Tensor  # int64 [masked]: the original ids
    next_sentence_labels: Tensor | None  # int64 [instances]; None without pairs

    def pin_memory(self) -> "MicroBatch":
        """Return the same batch in page-locked memory, from where `to` a GPU does not make the host wait."""
        fields = self._asdict().items()
        pinned: dict[str, Any] = {name: x.pin_memory() for name, x in fields if isinstance(x, Tensor)}
        return self._replace(**pinned)

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the same batch on `device`."""
        fields = self._asdict().items()
        moved: dict[str, Any] = {name: x.to(device, non_blocking=True) for name, x in fields if isinstance(x, Tensor)}
        return self._replace(**moved)


def to_micro_batch(block: Block) -> MicroBatch:
    """Return the flat batch of every sequence of `block`, on the CPU.

    Packed instances become neighbours like any others: attention and positions never cross an instance.
    Raises ValueError when the block has no masks: where they are dynamic, `draw_masks` comes first.
    """
    if block.masked_lm_counts is None or block.masked_lm_positions is None or block.masked_lm_ids is None:
        raise ValueError(
            "a block holds no masks, but its manifest does not say masking.kind=dynamic: prepare the shards again "
            "(`python -m data_prep.audit` tells what else is wrong)"
        )
    lengths = block.instance_lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    position_ids = np.arange(block.num_tokens, dtype=np.int64) - np.repeat(starts, lengths)
    segment_b = position_ids >= np.repeat(block.segment_a_lengths.astype(np.int64), lengths)
    masked = block.masked_lm_positions.astype(np.int64) + np.repeat(starts, block.masked_lm_counts)
    labels = block.next_sentence_labels
    return MicroBatch(
        input_ids=_tensor(block.input_ids),
        token_type_ids=_tensor(segment_b),
        position_ids=torch.from_numpy(position_ids),
        cu_seqlens=torch.from_numpy(np.append(starts, block.num_tokens).astype(np.int32)),
        instance_lengths=tuple(lengths.tolist()),
        masked_positions=torch.from_numpy(masked),
        masked_lm_ids=_tensor(block.masked_lm_ids),
        next_sentence_labels=None if labels is None else _tensor(labels),
    )


def _tensor(column: np.ndarray[tuple[int], np.dtype[np.generic]]) -> Tensor:
    return torch.from_numpy(column.astype(np.int64))
