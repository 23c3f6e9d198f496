"""Segment pairs of one bucket -> blocks of masked instances, ready to be written."""

from collections.abc import Iterator

import numpy as np

from data_prep.config import DataPrepConfig, MaskingConfig
from data_prep.instances import encode_pairs
from data_prep.manifest import TokenizerInfo
from data_prep.masking import Vocabulary, mask_instances
from data_prep.pairs import SegmentPairs
from data_prep.shard_format import Block
from data_prep.tokenized import TokenizedDocuments

INSTANCES_AT_ONCE = 4096
"""Instances that are encoded and masked in one go: enough to make numpy worth while, some 50 MB at 128 tokens."""


def masked_blocks(
    documents: TokenizedDocuments,
    pairs: SegmentPairs,
    config: DataPrepConfig,
    tokenizer: TokenizerInfo,
    rng: np.random.Generator,
) -> Iterator[Block]:
    """Yield the blocks of all pairs in order, one instance per sequence, with static masks.

    The dtypes are wider than those on disk, which `encode_block` narrows. `rng` serves all blocks in turn.
    """
    block_size = config.shards.block_size
    chunk = block_size * max(1, INSTANCES_AT_ONCE // block_size)
    for start in range(0, len(pairs), chunk):
        stop = min(start + chunk, len(pairs))
        masked = _masked_block(documents, pairs.take(np.arange(start, stop)), config.masking, tokenizer, rng)
        for row in range(0, stop - start, block_size):
            yield masked.take(np.arange(row, min(row + block_size, stop - start)))


def vocabulary_of(tokenizer: TokenizerInfo) -> Vocabulary:
    """Return what masking needs of a tokenizer. [UNK] counts as special: nothing is learnt from predicting it."""
    special_ids = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id}
    return Vocabulary(
        size=tokenizer.vocab_size,
        mask_id=tokenizer.mask_id,
        special_ids=sorted(special_id for special_id in special_ids if special_id is not None),
    )


def _masked_block(
    documents: TokenizedDocuments,
    pairs: SegmentPairs,
    masking: MaskingConfig,
    tokenizer: TokenizerInfo,
    rng: np.random.Generator,
) -> Block:
    """Return one block of `pairs`, one instance per sequence, with static masks."""
    assert masking.max_predictions_per_seq is not None, "DataPrepConfig replaces null"
    instances = encode_pairs(documents, pairs, tokenizer)
    masked = mask_instances(
        instances.input_ids,
        instances.lengths,
        vocabulary=vocabulary_of(tokenizer),
        masked_lm_prob=masking.masked_lm_prob,
        max_predictions_per_seq=masking.max_predictions_per_seq,
        rng=rng,
        word_starts=instances.word_starts if masking.whole_word else None,
    )
    return Block(
        input_ids=masked.input_ids,
        instance_lengths=instances.lengths,
        segment_a_lengths=instances.segment_a_lengths,
        sequence_instances=np.ones(len(pairs), dtype=np.int64),
        masked_lm_counts=masked.counts,
        masked_lm_positions=masked.positions,
        masked_lm_ids=masked.ids,
        next_sentence_labels=pairs.labels,
    )
