"""Segment pairs -> the columns of `[CLS] A [SEP] B [SEP]` instances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import TokenizerInfo
from data_prep.pairs import NUM_SPECIAL_TOKENS, SegmentPairs
from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """Instances end to end, before masking."""

    input_ids: IntArray  # [tokens], the dtype of the documents' tokens
    lengths: NDArray[np.int64]  # [instances]
    segment_a_lengths: NDArray[np.int64]  # [instances]: `[CLS] A [SEP]`
    word_starts: NDArray[np.bool_]  # [tokens]: true at special tokens too


def encode_pairs(documents: TokenizedDocuments, pairs: SegmentPairs, tokenizer: TokenizerInfo) -> Instances:
    """Return the instances of `pairs`, whose ranges count in `documents.token_ids`, in their order."""
    lengths = pairs.a_lengths + pairs.b_lengths + NUM_SPECIAL_TOKENS
    starts = np.cumsum(lengths) - lengths
    separators = starts + pairs.a_lengths + 1
    is_text = np.ones(int(lengths.sum()), dtype=np.bool_)
    for special in (starts, separators, starts + lengths - 1):
        is_text[special] = False
    segment_starts = np.stack((pairs.a_starts, pairs.b_starts), axis=1).ravel()
    segment_lengths = np.stack((pairs.a_lengths, pairs.b_lengths), axis=1).ravel()
    before = np.cumsum(segment_lengths) - segment_lengths
    source = np.repeat(segment_starts - before, segment_lengths) + np.arange(segment_lengths.sum())
    input_ids = np.full(len(is_text), tokenizer.sep_id, dtype=documents.token_ids.dtype)
    input_ids[starts] = tokenizer.cls_id
    input_ids[is_text] = documents.token_ids[source]
    word_starts = np.ones(len(is_text), dtype=np.bool_)
    word_starts[is_text] = documents.word_starts[source]
    return Instances(
        input_ids=input_ids, lengths=lengths, segment_a_lengths=pairs.a_lengths + 2, word_starts=word_starts
    )
