"""Documents of one bucket -> the next-sentence pairs of google-research/bert, faults included, to compare with it.

The algorithm of `create_instances_from_document` in create_pretraining_data.py. `next_sentence` says what is wrong
with it and does better.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from data_prep.pairing.chunks import target_length, uniform_rows
from data_prep.pairing.pairs import (
    NUM_SPECIAL_TOKENS,
    SegmentPairs,
    count_next_sentence_pairs,
    kept_lengths,
    pairs_of_ranges,
)
from data_prep.pairing.text_spans import TextSpans
from data_prep.tokenized import TokenizedDocuments

Row = tuple[int, int, int, int, bool]  # A start, A stop, B start, B stop, whether B is random


def make_reference_pairs(
    documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, rng: np.random.Generator
) -> tuple[SegmentPairs, dict[str, int]]:
    """Return the pairs of all documents, document by document, and counts of what was done.

    A target length is drawn per document; a chunk of one sentence gets a random B. Every token of a document is in
    exactly one A or following B, save those counted in `tokens_truncated`. A document that is alone gets random Bs of
    its own, counted in `pairs_from_one_document`.
    """
    max_tokens = max_seq_length - NUM_SPECIAL_TOKENS
    text = TextSpans(documents)
    draws = chain.from_iterable(uniform_rows(rng, 4))
    rows: list[Row] = []
    for document in range(text.num_documents):
        target = target_length(max_tokens, short_seq_prob, next(draws), next(draws))
        rows += _walk_document(text, document, target, draws)
    a_starts, a_stops, b_starts, b_stops, is_random = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    whole = pairs_of_ranges((a_starts, a_stops), (b_starts, b_stops), is_random.astype(np.bool_))
    pairs = truncate_random_ends(whole, max_tokens, rng)
    return pairs, count_next_sentence_pairs(text, whole, pairs)


def truncate_random_ends(pairs: SegmentPairs, max_tokens: int, rng: np.random.Generator) -> SegmentPairs:
    """Return the pairs cut to `max_tokens` together: each token from the longer segment, from either of its ends."""
    a_lengths, b_lengths = kept_lengths(pairs, max_tokens)
    return replace(
        pairs,
        a_starts=pairs.a_starts + rng.binomial(pairs.a_lengths - a_lengths, 0.5),
        a_lengths=a_lengths,
        b_starts=pairs.b_starts + rng.binomial(pairs.b_lengths - b_lengths, 0.5),
        b_lengths=b_lengths,
    )


def _walk_document(text: TextSpans, document: int, target: int, draws: Iterator[float]) -> Iterator[Row]:
    """Yield the rows of one document, not yet truncated."""
    first, last = text.first_sentence[document], text.first_sentence[document + 1]
    while first < last:
        start = text.start(first)
        after = min(bisect_left(text.stops, start + target, lo=first) + 1, last)
        is_single = after - first == 1
        a_sentences = 1 if is_single else 1 + int(next(draws) * (after - first - 1))
        middle = text.start(first + a_sentences)
        is_random = is_single or next(draws) < 0.5
        if is_random:
            yield (start, middle, *_random_b(text, document, target - (middle - start), draws), True)
            first += a_sentences
        else:
            yield start, middle, middle, text.start(after), False
            first = after


def _random_b(text: TextSpans, document: int, target: int, draws: Iterator[float]) -> tuple[int, int]:
    """Return the range of sentences with `target` tokens or more, from a random one of another document on.

    Ten draws to find another document, then it is its own: so the original.
    """
    for _ in range(10):
        other = int(next(draws) * text.num_documents)
        if other != document:
            break
    first, last = text.first_sentence[other], text.first_sentence[other + 1]
    sentence = first + int(next(draws) * (last - first))
    start = text.start(sentence)
    return start, text.stops[min(bisect_left(text.stops, start + target, lo=sentence), last - 1)]
