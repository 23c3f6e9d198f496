"""Documents of one bucket -> next-sentence pairs: half of the Bs follow their A, half are from other documents.

After `create_instances_from_document` of google-research/bert/create_pretraining_data.py (`reference_pairs` is that
algorithm as it was), with what it lacks:

- A fair coin decides for every chunk. The original makes every chunk of one sentence random.
- Truncation takes A's head and B's tail, never what lies between: where B follows A, it starts where A ends.
- Nothing but its content tells a random B. It is the B of another chunk, of about the length of the B whose place it
  takes. In the original a random B runs to the target length, while a following one ends with its document.
- The shorter target length is drawn per chunk, not per document: it must not hit a whole novel.
"""

import numpy as np
from numpy.typing import NDArray

from data_prep.pairing.chunks import Chunks, make_chunks
from data_prep.pairing.pairs import (
    NUM_SPECIAL_TOKENS,
    SegmentPairs,
    count_next_sentence_pairs,
    pairs_of_ranges,
    truncate_outer_ends,
)
from data_prep.pairing.text_spans import TextSpans
from data_prep.tokenized import TokenizedDocuments

NEIGHBOURS = 8
"""A random B is one of so many shorter and so many longer ones; it costs nothing where thousands are as long."""

DRAWS = 4
"""How often a neighbour is drawn before the nearest one of another document is taken."""


def make_next_sentence_pairs(
    documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, rng: np.random.Generator
) -> tuple[SegmentPairs, dict[str, int]]:
    """Return the pairs of all documents, document by document, and counts of what was done.

    A random B comes from another of `documents`; a document that is alone gets none. Every token of a document is in
    exactly one A or following B, save those counted in `tokens_truncated` and `tokens_unused` (a last word that was
    left alone); `tokens_borrowed` counts random Bs.
    """
    max_tokens = max_seq_length - NUM_SPECIAL_TOKENS
    text = TextSpans(documents)
    partners = text.count_divisible_documents()
    random_share = 0.5 if partners > 1 else 0.0
    chunks, unused = make_chunks(
        text, max_tokens=max_tokens, short_seq_prob=short_seq_prob, random_share=random_share, rng=rng
    )
    source = np.arange(len(chunks))
    source[chunks.is_random] = draw_donors(chunks, ~text.ends_sentence(chunks.middles), rng)
    whole = pairs_of_ranges(
        (chunks.starts, chunks.middles), (chunks.middles[source], chunks.stops[source]), chunks.is_random
    )
    pairs = truncate_outer_ends(whole, max_tokens)
    counts = count_next_sentence_pairs(text, whole, pairs)
    alone = {"documents_without_partner": 1, "instances_without_partner": len(pairs)} if partners == 1 else {}
    return pairs, {"documents_without_partner": 0, "instances_without_partner": 0, **alone, **unused, **counts}


def draw_donors(chunks: Chunks, is_cut: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the chunks, int64 [random chunks], whose B each random chunk takes: all of another document than its own.

    A B that begins inside a sentence (`is_cut`, bool [chunks]) takes the place of such a one, if there is another.
    """
    takers = np.flatnonzero(chunks.is_random)
    if not len(takers):
        return takers
    lengths = chunks.stops - chunks.middles
    order = np.lexsort((rng.random(len(chunks)), lengths, is_cut))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    places = places[takers]
    num_whole = int(np.sum(~is_cut))
    low = np.maximum(places - NEIGHBOURS, np.where(is_cut[takers], num_whole, 0))
    high = np.minimum(places + NEIGHBOURS, np.where(is_cut[takers], len(order), num_whole) - 1)
    drawn = low[:, None] + (rng.random((len(takers), DRAWS)) * (high - low + 1)[:, None]).astype(np.int64)
    documents = chunks.documents[order]
    is_other = documents[drawn] != documents[places][:, None]
    first = drawn[np.arange(len(takers)), is_other.argmax(axis=1)]
    nearest = nearest_of_another_document(documents, lengths[order])[places]
    return order[np.where(is_other.any(axis=1), first, nearest)]


def nearest_of_another_document(documents: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for every place, int64 [places], the next one before or after it with another document.

    Of the two it is the one with the nearer length. There must be two documents; both arguments are int64 [places].
    """
    count = len(documents)
    runs = np.flatnonzero(np.concatenate(([True], documents[1:] != documents[:-1])))
    run_of = np.repeat(np.arange(len(runs)), np.diff(np.append(runs, count)))
    before, after = runs[run_of] - 1, np.append(runs[1:], count)[run_of]
    to_before = np.abs(lengths - lengths[np.maximum(before, 0)])
    to_after = np.abs(lengths - lengths[np.minimum(after, count - 1)])
    takes_after = (before < 0) | ((after < count) & (to_after < to_before))
    return np.where(takes_after, after, before)
