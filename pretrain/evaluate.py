"""Held-out loss and accuracies, over all ranks, and the unigram entropy that a model must get under."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.manifest import ShardInfo
from data_prep.shard_format import Block
from pretrain.data.batch import to_micro_batch
from pretrain.data.reader import BlockReader
from pretrain.distributed import Ranks
from pretrain.objective import loss_sums
from pretrain.track.metrics import HELD_OUT_PREFIX, LossSums, Record, held_out_metrics


def evaluate(
    module: nn.Module,
    reader: BlockReader,
    shards: Sequence[ShardInfo],
    ranks: Ranks,
    *,
    max_sequences: int,
    micro_batch_size: int,
    vocab_size: int,
) -> Record:
    """Return `held_out_*` metrics on the first `max_sequences` sequences of the split, without dropout.

    `held_out_unigram_entropy` (nats) is the entropy of the masked tokens' own distribution: the loss of a model that
    knows how frequent each token is and nothing of its context. All ranks call it together; blocks are dealt out
    in turn, so that the sums do not depend on the number of ranks (but for float summation order).
    """
    own = _own_blocks(reader, shards, ranks, max_sequences)
    was_training = module.training
    module.eval()
    sums, items, label_counts = ranks.together(lambda: _add_up(module, own, ranks, micro_batch_size, vocab_size))
    module.train(was_training)
    mlm_loss, mlm_correct, nsp_loss, nsp_correct = ranks.sum(sums).tolist()
    masked_tokens, pairs = ranks.sum(items).tolist()
    losses = LossSums(
        mlm_loss_sum=mlm_loss,
        mlm_correct=int(mlm_correct),
        masked_tokens=masked_tokens,
        nsp_loss_sum=nsp_loss,
        nsp_correct=int(nsp_correct),
        pairs=pairs,
    )
    unigram_entropy = entropy(ranks.sum(label_counts).numpy())
    return held_out_metrics(losses) | {f"{HELD_OUT_PREFIX}unigram_entropy": unigram_entropy}


@torch.no_grad()
def _add_up(
    module: nn.Module, blocks: Iterable[Block], ranks: Ranks, micro_batch_size: int, vocab_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss sums (float64 [4]), masked tokens and pairs (int64 [2]), label counts (int64 [vocab_size])."""
    sums = torch.zeros(4, dtype=torch.float64)
    items = torch.zeros(2, dtype=torch.int64)
    label_counts = torch.zeros(vocab_size, dtype=torch.int64)
    for block in blocks:
        for start in range(0, block.num_sequences, micro_batch_size):
            rows = block.take(np.arange(start, min(start + micro_batch_size, block.num_sequences)))
            batch = to_micro_batch(rows)
            pairs = 0 if batch.next_sentence_labels is None else len(batch.next_sentence_labels)
            label_counts += torch.bincount(batch.masked_lm_ids, minlength=vocab_size)
            items += torch.tensor([len(batch.masked_lm_ids), pairs])
            moved = batch.to(ranks.device)
            sums += torch.stack(loss_sums(module(moved), moved)).double().cpu()
    return sums, items, label_counts


def entropy(counts: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    """Return the entropy, in nats, of the distribution that `counts` [items] are drawn from; 0 without any."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def _own_blocks(reader: BlockReader, shards: Sequence[ShardInfo], ranks: Ranks, max_sequences: int) -> Iterator[Block]:
    """Yield this rank's share of the first `max_sequences` sequences: every world_size-th block, in manifest order."""
    number, left = 0, max_sequences
    for shard in range(len(shards)):
        for block, size in enumerate(reader.block_sequences(shard).tolist()):
            if left <= 0:
                return
            if number % ranks.world_size == ranks.rank:
                yield reader.rows(0, shard, block, np.arange(min(size, left)))
            number, left = number + 1, left - size
