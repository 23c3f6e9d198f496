"""Held-out loss and accuracies, over all ranks, and the unigram entropy that a model must get under."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.manifest import ShardInfo
from data_prep.masking import MaskingRules
from pretrain.data.batch import MicroBatch, to_micro_batch
from pretrain.data.masks import Place, draw_masks
from pretrain.data.reader import BlockReader
from pretrain.distributed import Ranks
from pretrain.objective import loss_sums
from pretrain.seeds import held_out_mask_seed
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
    masking: MaskingRules | None = None,
) -> Record:
    """Return `held_out_*` metrics on the first `max_sequences` sequences of the split, without dropout.

    `masking` draws the masks that the shards do not hold, the same ones at every evaluation.
    `held_out_unigram_entropy` (nats) is the entropy of the masked tokens' own distribution: the loss of a model that
    knows how frequent each token is and nothing of its context. All ranks call it together; blocks are dealt out
    in turn, so that the sums do not depend on the number of ranks (but for float summation order). Everything is
    read before anything is computed, and every rank runs as many forward passes as the one with most to do: under
    ZeRO-3 each is a collective.
    """
    shares = _deal_out(reader, shards, ranks.world_size, max_sequences)
    passes = max(sum(-(-count // micro_batch_size) for _, _, count in share) for share in shares)
    batches = ranks.together(
        lambda: list(_micro_batches(reader, shares[ranks.rank] or shares[0][:1], micro_batch_size, masking))
    )
    own = len(batches) if shares[ranks.rank] else 0
    was_training = module.training
    module.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    for number in range(passes):
        result = _forward(module, batches[number % len(batches)], ranks)
        if number < own:
            sums += result
    module.train(was_training)
    mlm_loss, mlm_correct, nsp_loss, nsp_correct = ranks.sum(sums).tolist()
    items, label_counts = _count(batches[:own], vocab_size)
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
def _forward(module: nn.Module, batch: MicroBatch, ranks: Ranks) -> Tensor:
    """Return the loss sums and right answers of one micro-batch, float64 [4], on the CPU."""
    moved = batch.to(ranks.device)
    return torch.stack(loss_sums(module(moved), moved)).double().cpu()


def _count(batches: Sequence[MicroBatch], vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return masked tokens and pairs, int64 [2], and how often each id is a label, int64 [vocab_size]."""
    items = torch.zeros(2, dtype=torch.int64)
    label_counts = torch.zeros(vocab_size, dtype=torch.int64)
    for batch in batches:
        pairs = 0 if batch.next_sentence_labels is None else len(batch.next_sentence_labels)
        items += torch.tensor([len(batch.masked_lm_ids), pairs])
        label_counts += torch.bincount(batch.masked_lm_ids, minlength=vocab_size)
    return items, label_counts


def entropy(counts: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    """Return the entropy, in nats, of the distribution that `counts` [items] are drawn from; 0 without any."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def _deal_out(
    reader: BlockReader, shards: Sequence[ShardInfo], world_size: int, max_sequences: int
) -> list[list[tuple[int, int, int]]]:
    """Return what each rank evaluates: (shard, block, sequences), every world_size-th block in manifest order."""
    shares: list[list[tuple[int, int, int]]] = [[] for _ in range(world_size)]
    number, left = 0, max_sequences
    for shard in range(len(shards)):
        for block, size in enumerate(reader.block_sequences(shard).tolist()):
            if left <= 0:
                return shares
            shares[number % world_size].append((shard, block, min(size, left)))
            number, left = number + 1, left - size
    return shares


def _micro_batches(
    reader: BlockReader,
    share: Sequence[tuple[int, int, int]],
    micro_batch_size: int,
    masking: MaskingRules | None,
) -> Iterator[MicroBatch]:
    for shard, block, count in share:
        for start in range(0, count, micro_batch_size):
            rows = np.arange(start, min(start + micro_batch_size, count))
            sequences = reader.rows(0, shard, block, rows)
            if masking is not None:
                places = [Place(held_out_mask_seed(), shard, block, row) for row in rows.tolist()]
                sequences = draw_masks(sequences, masking, places)
            yield to_micro_batch(sequences)
