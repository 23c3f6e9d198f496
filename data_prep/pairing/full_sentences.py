"""Documents of one bucket -> instances of full sentences across documents (RoBERTa, Liu et al. 2019, section 4.2)."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from data_prep.pairing.pairs import SegmentPairs
from data_prep.pairing.text_spans import TextSpans
from data_prep.tokenized import TokenizedDocuments

NUM_OUTER_TOKENS = 2  # [CLS] text [SEP]


def join_full_sentences(documents: TokenizedDocuments, *, max_seq_length: int) -> tuple[SegmentPairs, dict[str, int]]:
    """Return instances that hold as many whole sentences as fit, in the order of the text, and counts of what was done.

    A document goes on where the one before it ends, after a [SEP] of its own: `documents_joined` counts those. Every
    token is in exactly one instance, save those of a sentence that alone is too long: `tokens_truncated`.
    """
    capacity = max_seq_length - NUM_OUTER_TOKENS
    text = TextSpans(documents)
    num_sentences = len(text.stops)
    is_last = np.zeros(num_sentences, dtype=np.int64)
    is_last[np.array(text.first_sentence[1:], dtype=np.int64) - 1] = 1
    ends_before = np.cumsum(is_last) - is_last
    firsts = _first_sentences(text.sentence_stops + ends_before, is_last, capacity)
    lasts = np.append(firsts[1:], num_sentences)[: len(firsts)] - 1
    starts = np.concatenate(([0], text.sentence_stops))[firsts]
    whole = text.sentence_stops[lasts] - starts
    lengths = np.minimum(whole, capacity)
    nothing = np.zeros_like(starts)
    joined = ends_before[lasts] - ends_before[firsts]
    instances = SegmentPairs(
        a_starts=starts, a_lengths=lengths, b_starts=nothing, b_lengths=nothing, inner_ends=joined, labels=None
    )
    return instances, {
        "instances": len(instances),
        "documents_joined": int(joined.sum()),
        "tokens_truncated": int((whole - lengths).sum()),
    }


def _first_sentences(stops: NDArray[np.int64], is_last: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Return the first sentence of each instance, int64 [instances].

    `stops`, int64 [sentences], says where a sentence has ended when every document end before it is a token too.
    """
    stop_of: list[int] = stops.tolist()
    next_start: list[int] = (stops + is_last).tolist()
    firsts: list[int] = []
    first = start = 0
    while first < len(stop_of):
        firsts.append(first)
        first = max(bisect_right(stop_of, start + capacity, lo=first), first + 1)
        start = next_start[first - 1]
    return np.array(firsts, dtype=np.int64)
