"""Documents of one bucket -> sentence-order pairs (ALBERT, Lan et al. 2019): two neighbours, in order or swapped.

Nothing but content tells the order. A chunk ends before the sentence that would exceed its target: truncation would
cut the head of what came first or the tail of what came last. That sentence begins the next chunk, and is longer than
most. So half of the documents, by a coin, are cut into chunks from their end, where it ends the chunk before instead.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from data_prep.pairing.chunks import split_chunk, target_length, uniform_rows
from data_prep.pairing.pairs import NUM_SPECIAL_TOKENS, SegmentPairs, pairs_of_ranges, truncate_outer_ends
from data_prep.pairing.text_spans import TextSpans
from data_prep.tokenized import TokenizedDocuments

Row = tuple[int, int, int]  # where a chunk begins, where its second part begins, where it has ended


def make_sentence_order_pairs(
    documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, rng: np.random.Generator
) -> tuple[SegmentPairs, dict[str, int]]:
    """Return the pairs of all documents, document by document, and counts of what was done.

    Every token is in exactly one segment, save those counted in `tokens_truncated` (two sentences that are too long
    together lose A's head and B's tail as they stand in the instance) and `tokens_unused` (a single word that was left
    alone). A sentence left alone is cut in two. `touching_pairs` have nothing between their segments.
    """
    max_tokens = max_seq_length - NUM_SPECIAL_TOKENS
    text = TextSpans(documents)
    rows, unused = _make_chunks(text, max_tokens, short_seq_prob, rng)
    starts, middles, stops = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    is_swapped = rng.random(len(rows)) < 0.5
    first, second = (starts, middles), (middles, stops)
    a = np.where(is_swapped, second, first)
    b = np.where(is_swapped, first, second)
    whole = pairs_of_ranges((a[0], a[1]), (b[0], b[1]), is_swapped)
    pairs = truncate_outer_ends(whole, max_tokens)
    a_stops, b_stops = pairs.a_starts + pairs.a_lengths, pairs.b_starts + pairs.b_lengths
    touches = np.where(is_swapped, b_stops == pairs.a_starts, a_stops == pairs.b_starts)
    return pairs, {
        **unused,
        "sentences_cut": int(np.sum(~text.ends_sentence(middles))),
        "instances": len(pairs),
        "swapped_pairs": int(is_swapped.sum()),
        "touching_pairs": int(touches.sum()),
        "tokens_truncated": int((stops - starts - pairs.a_lengths - pairs.b_lengths).sum()),
    }


def _make_chunks(
    text: TextSpans, max_tokens: int, short_seq_prob: float, rng: np.random.Generator
) -> tuple[list[Row], dict[str, int]]:
    """Return the chunks of all documents, and counts of what is in none."""
    from_end = (rng.random(text.num_documents) < 0.5).tolist()
    draws = uniform_rows(rng, 3)
    rows: list[Row] = []
    counts = {"documents_without_instance": 0, "sentences_unused": 0, "tokens_unused": 0}
    for document in range(text.num_documents):
        begin, end = text.first_sentence[document : document + 2]
        edges = [text.start(begin), *text.stops[begin:end]]
        num_rows = len(rows)
        for first, after, split in _sentence_ranges(edges, from_end[document], max_tokens, short_seq_prob, draws):
            middle = split_chunk(text, edges[first], begin + first, begin + after, split)
            if middle is None:
                counts["sentences_unused"] += 1
                counts["tokens_unused"] += edges[after] - edges[first]
            else:
                rows.append((edges[first], middle, edges[after]))
        counts["documents_without_instance"] += len(rows) == num_rows
    return rows, counts


def _sentence_ranges(
    edges: list[int], from_end: bool, max_tokens: int, short_seq_prob: float, draws: Iterator[list[float]]
) -> Iterator[tuple[int, int, float]]:
    """Yield the first sentence of each chunk of a document, the one after its last, and the draw for its split.

    A chunk has two sentences or more, unless one is left over. `edges` are the sentences' starts and the last one's
    end.
    """
    count = len(edges) - 1
    if from_end:
        edges = [-edge for edge in reversed(edges)]
    first = 0
    while first < count:
        short, length, split = next(draws)
        target = target_length(max_tokens, short_seq_prob, short, length)
        fitting = bisect_right(edges, edges[first] + target, lo=first) - 1
        after = min(max(fitting, first + 2), count)
        if count - after == 1 and after - first > 2:
            after -= 1  # rather than leave the last sentence alone, to be cut
        yield (count - after, count - first, split) if from_end else (first, after, split)
        first = after
