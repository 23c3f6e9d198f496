"""Instances as ranges of a bucket's flat tokens: what every objective makes, how long it may be, what is counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_prep.pairing.text_spans import TextSpans
from data_prep.shard_format import IntArray

NUM_SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPairs:
    """Instances as ranges of flat tokens; every column is int64 [instances].

    Without labels an instance is `[CLS] A [SEP]`: B is empty, and A may run over document ends, each of which gets
    another [SEP].
    """

    a_starts: NDArray[np.int64]
    a_lengths: NDArray[np.int64]
    b_starts: NDArray[np.int64]
    b_lengths: NDArray[np.int64]
    inner_ends: NDArray[np.int64]  # document ends inside A; 0 with labels
    labels: NDArray[np.int64] | None  # nsp: 0 = B follows A, 1 = random B; sop: 0 = in order, 1 = swapped

    def __len__(self) -> int:
        return len(self.a_starts)

    def take(self, rows: IntArray) -> "SegmentPairs":
        """Return the pairs of the given rows, int [rows], in that order."""
        return SegmentPairs(
            a_starts=self.a_starts[rows],
            a_lengths=self.a_lengths[rows],
            b_starts=self.b_starts[rows],
            b_lengths=self.b_lengths[rows],
            inner_ends=self.inner_ends[rows],
            labels=None if self.labels is None else self.labels[rows],
        )


def pairs_of_ranges(
    a: tuple[NDArray[np.int64], NDArray[np.int64]],
    b: tuple[NDArray[np.int64], NDArray[np.int64]],
    labels: NDArray[np.bool_],
) -> SegmentPairs:
    """Return the pairs of segments given as (starts, stops), labelled 1 where `labels` is true."""
    (a_starts, a_stops), (b_starts, b_stops) = a, b
    return SegmentPairs(
        a_starts=a_starts,
        a_lengths=a_stops - a_starts,
        b_starts=b_starts,
        b_lengths=b_stops - b_starts,
        inner_ends=np.zeros(len(a_starts), dtype=np.int64),
        labels=labels.astype(np.int64),
    )


def concatenate_pairs(parts: Sequence[SegmentPairs], offsets: IntArray) -> SegmentPairs:
    """Return the pairs of all `parts` (at least one), whose ranges count from `offsets`, int [parts], on."""
    labels = [part.labels for part in parts if part.labels is not None]
    return SegmentPairs(
        a_starts=np.concatenate([part.a_starts + offset for part, offset in zip(parts, offsets, strict=True)]),
        a_lengths=np.concatenate([part.a_lengths for part in parts]),
        b_starts=np.concatenate([part.b_starts + offset for part, offset in zip(parts, offsets, strict=True)]),
        b_lengths=np.concatenate([part.b_lengths for part in parts]),
        inner_ends=np.concatenate([part.inner_ends for part in parts]),
        labels=np.concatenate(labels) if labels else None,
    )


def kept_lengths(pairs: SegmentPairs, max_tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lengths of A and B, int64 [pairs] each, that leave them `max_tokens` together at most.

    The longer segment gives first, as in google-research/bert: none is cut below half of `max_tokens`.
    """
    a_lengths = np.minimum(pairs.a_lengths, np.maximum(max_tokens - pairs.b_lengths, (max_tokens + 1) // 2))
    return a_lengths, np.minimum(pairs.b_lengths, max_tokens - a_lengths)


def truncate_outer_ends(pairs: SegmentPairs, max_tokens: int) -> SegmentPairs:
    """Return the pairs with A's head and B's tail cut so that A and B have at most `max_tokens` together."""
    a_lengths, b_lengths = kept_lengths(pairs, max_tokens)
    a_stops = pairs.a_starts + pairs.a_lengths
    return replace(pairs, a_starts=a_stops - a_lengths, a_lengths=a_lengths, b_lengths=b_lengths)


def count_next_sentence_pairs(text: TextSpans, whole: SegmentPairs, pairs: SegmentPairs) -> dict[str, int]:
    """Return counts of next-sentence pairs, measured from their ranges before truncation (`whole`) and after it.

    `tokens_truncated` leaves out random Bs, whose tokens are only borrowed: `tokens_borrowed`. `touching_pairs` are
    next pairs whose B starts where A ends; `pairs_from_one_document` are random ones that should be from two.
    """
    assert pairs.labels is not None
    is_random = pairs.labels == 1
    touches = pairs.b_starts == pairs.a_starts + pairs.a_lengths
    is_one_document = text.document_of(pairs.a_starts) == text.document_of(pairs.b_starts)
    cut_from_b = np.where(is_random, 0, whole.b_lengths - pairs.b_lengths)
    return {
        "instances": len(pairs),
        "next_pairs": int(np.sum(~is_random)),
        "random_pairs": int(is_random.sum()),
        "touching_pairs": int(np.sum(touches & ~is_random)),
        "pairs_from_one_document": int(np.sum(is_one_document & is_random)),
        "tokens_truncated": int((whole.a_lengths - pairs.a_lengths + cut_from_b).sum()),
        "tokens_borrowed": int(pairs.b_lengths[is_random].sum()),
    }
