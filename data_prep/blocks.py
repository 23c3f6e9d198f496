"""Segment pairs of one bucket and their sequences -> blocks of instances, ready to be written."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from data_prep.config import DataPrepConfig, MaskingConfig, MaskingKind
from data_prep.instances import encode_pairs
from data_prep.manifest import TokenizerInfo
from data_prep.masking import MaskingRules, mask_block, vocabulary_of
from data_prep.packing import Sequences
from data_prep.pairing.pairs import SegmentPairs
from data_prep.shard_format import Block
from data_prep.tokenized import TokenizedDocuments

TOKENS_AT_ONCE = 1 << 19
"""Tokens that are encoded and masked in one go, at most: enough to make numpy worth while, some 50 MB."""


def make_blocks(
    documents: TokenizedDocuments,
    pairs: SegmentPairs,
    sequences: Sequences,
    config: DataPrepConfig,
    tokenizer: TokenizerInfo,
    mask_source: np.random.BitGenerator,
) -> Iterator[Block]:
    """Yield the blocks of all sequences in order, with static masks or with what the trainer needs to draw its own.

    The dtypes are wider than those on disk, which `encode_block` narrows. `mask_source` serves all blocks in turn, so
    that masks do not depend on how many are made at once.
    """
    block_size = config.shards.block_size
    chunk = block_size * max(1, TOKENS_AT_ONCE // (block_size * config.sequence.max_seq_length))
    rules = _rules_of(config.masking, tokenizer)
    for start in range(0, len(sequences), chunk):
        rows = np.arange(start, min(start + chunk, len(sequences)))
        block = _encode(documents, pairs, sequences.take(rows), tokenizer)
        if config.masking.kind is MaskingKind.static:
            block = mask_block(block, rules, mask_source.random_raw((block.num_tokens, 2)))
        elif not rules.whole_word:
            block = replace(block, word_starts=None)
        for row in range(0, len(rows), block_size):
            yield block.take(np.arange(row, min(row + block_size, len(rows))))


def _rules_of(masking: MaskingConfig, tokenizer: TokenizerInfo) -> MaskingRules:
    assert masking.max_predictions_per_seq is not None, "DataPrepConfig replaces null"
    return MaskingRules(
        vocabulary=vocabulary_of(tokenizer),
        masked_lm_prob=masking.masked_lm_prob,
        max_predictions_per_seq=masking.max_predictions_per_seq,
        whole_word=masking.whole_word,
        max_ngram=masking.max_ngram,
    )


def _encode(
    documents: TokenizedDocuments, pairs: SegmentPairs, sequences: Sequences, tokenizer: TokenizerInfo
) -> Block:
    """Return one block of `sequences`, whose instances number `pairs`, with word starts and without masks."""
    pairs = pairs.take(sequences.instances)
    instances = encode_pairs(documents, pairs, tokenizer)
    return Block(
        input_ids=instances.input_ids,
        instance_lengths=instances.lengths,
        segment_a_lengths=instances.segment_a_lengths,
        sequence_instances=sequences.num_instances,
        word_starts=instances.word_starts,
        next_sentence_labels=pairs.labels,
    )
