"""Ranges of flat tokens -> the columns of `[CLS] A [SEP] B [SEP]` or `[CLS] text [SEP]` instances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.manifest import TokenizerInfo
from data_prep.pairing.pairs import SegmentPairs
from data_prep.pairing.text_spans import document_stops
from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """Instances end to end, before masking."""

    input_ids: IntArray  # [tokens], the dtype of the documents' tokens
    lengths: NDArray[np.int64]  # [instances]
    segment_a_lengths: NDArray[np.int64]  # [instances]: `[CLS] A [SEP]`, the whole instance where there is no B
    word_starts: NDArray[np.bool_]  # [tokens]: true at special tokens too


def instance_lengths(pairs: SegmentPairs) -> NDArray[np.int64]:
    """Return the tokens of each instance, special tokens included, int64 [instances]."""
    of_a = segment_a_lengths(pairs)
    return of_a if pairs.labels is None else of_a + pairs.b_lengths + 1


def segment_a_lengths(pairs: SegmentPairs) -> NDArray[np.int64]:
    """Return the tokens of `[CLS] A [SEP]`, with one more [SEP] per document end inside A, int64 [instances]."""
    return pairs.a_lengths + pairs.inner_ends + 2


def encode_pairs(documents: TokenizedDocuments, pairs: SegmentPairs, tokenizer: TokenizerInfo) -> Instances:
    """Return the instances of `pairs`, whose ranges count in `documents.token_ids`, in their order."""
    lengths, of_a = instance_lengths(pairs), segment_a_lengths(pairs)
    starts = np.cumsum(lengths) - lengths
    is_text = np.ones(int(lengths.sum()), dtype=np.bool_)
    for special in (starts, starts + of_a - 1, starts + lengths - 1, _inner_separators(documents, pairs, starts)):
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
    return Instances(input_ids=input_ids, lengths=lengths, segment_a_lengths=of_a, word_starts=word_starts)


def _inner_separators(
    documents: TokenizedDocuments, pairs: SegmentPairs, starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where in the instances, which begin at `starts`, documents end inside A, int64 [document ends]."""
    counts = pairs.inner_ends
    if not counts.any():
        return np.zeros(0, dtype=np.int64)
    stops = document_stops(documents)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first_end = np.searchsorted(stops, pairs.a_starts, side="right")
    return np.repeat(starts + 1 - pairs.a_starts, counts) + stops[np.repeat(first_end, counts) + number] + number
