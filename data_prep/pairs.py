"""Documents of one bucket -> segment pairs for next-sentence prediction, as ranges of the bucket's flat tokens.

The algorithm is `create_instances_from_document` of google-research/bert/create_pretraining_data.py (chunks of whole
sentences up to a target length, a split point, a fair coin, unused sentences put back), with three differences:

- A chunk has two sentences or more, so none is forced to a random B (the original makes 58.9 % random). Only a
  sentence left alone at the end of a document is cut in two at a word start. The coin is thrown after the cut, and the
  random B of such a chunk starts inside a sentence too: a broken sentence says nothing about the label.
- Truncation takes A's head and B's tail, never what lies between: where B follows A, it starts where A ends.
- The shorter target length is drawn per instance, not per document: it must not hit a whole novel.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments

NUM_SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]

Row = tuple[int, int, int, int, int]  # A start, A stop, B start, B stop, label


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPairs:
    """Instances as ranges of flat tokens; every column is int64 [instances]."""

    a_starts: NDArray[np.int64]
    a_lengths: NDArray[np.int64]
    b_starts: NDArray[np.int64]
    b_lengths: NDArray[np.int64]
    labels: NDArray[np.int64]  # 0 = B follows A, 1 = random B

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: IntArray) -> "SegmentPairs":
        """Return the pairs of the given rows, int [rows], in that order."""
        return SegmentPairs(
            a_starts=self.a_starts[rows],
            a_lengths=self.a_lengths[rows],
            b_starts=self.b_starts[rows],
            b_lengths=self.b_lengths[rows],
            labels=self.labels[rows],
        )


def make_next_sentence_pairs(
    documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, rng: np.random.Generator
) -> tuple[SegmentPairs, dict[str, int]]:
    """Return the pairs of all documents, document by document, and counts of what was done.

    A random B comes from another of `documents`; a document that is alone gets none. Every token of a document is in
    exactly one A or following B, save those counted in `tokens_truncated` and `tokens_unused` (a last word that was
    left alone); `tokens_borrowed` counts random Bs.
    """
    max_tokens = max_seq_length - NUM_SPECIAL_TOKENS
    text = _Text(documents)
    draws = _uniform_draws(rng)
    rows: list[Row] = []
    unused = {"documents_without_instance": 0, "sentences_unused": 0, "tokens_unused": 0}
    for document in range(text.num_documents):
        new_rows, position = _walk_document(text, document, max_tokens, short_seq_prob, draws)
        rows += new_rows
        _, stop = text.range_of(document)
        if position < stop:
            unused["documents_without_instance"] += not new_rows
            unused["sentences_unused"] += text.starts_sentence(position)
            unused["tokens_unused"] += stop - position
    a_starts, a_stops, b_starts, b_stops, labels = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    whole = SegmentPairs(
        a_starts=a_starts, a_lengths=a_stops - a_starts, b_starts=b_starts, b_lengths=b_stops - b_starts, labels=labels
    )
    pairs = truncate_outer_ends(whole, max_tokens)
    is_random = labels == 1
    cut_from_b = np.where(is_random, 0, whole.b_lengths - pairs.b_lengths)
    return pairs, {
        "documents_without_partner": int(text.num_documents == 1),
        **unused,
        "instances": len(pairs),
        "random_pairs": int(is_random.sum()),
        "sentences_cut": int(np.sum(~np.isin(a_stops, text.stops))),
        "tokens_truncated": int((whole.a_lengths - pairs.a_lengths + cut_from_b).sum()),
        "tokens_borrowed": int(pairs.b_lengths[is_random].sum()),
    }


def truncate_outer_ends(pairs: SegmentPairs, max_tokens: int) -> SegmentPairs:
    """Return the pairs with A's head and B's tail cut so that A and B have at most `max_tokens` together.

    The longer segment gives first, as in google-research/bert: none is cut below half of `max_tokens`.
    """
    a_lengths = np.minimum(pairs.a_lengths, np.maximum(max_tokens - pairs.b_lengths, (max_tokens + 1) // 2))
    return SegmentPairs(
        a_starts=pairs.a_starts + pairs.a_lengths - a_lengths,
        a_lengths=a_lengths,
        b_starts=pairs.b_starts,
        b_lengths=np.minimum(pairs.b_lengths, max_tokens - a_lengths),
        labels=pairs.labels,
    )


class _Text:
    """Where sentences, documents and words lie in the flat tokens of a bucket.

    Lists, not arrays: bisect and single items are ten times faster on them, and the walk needs nothing else.
    """

    def __init__(self, documents: TokenizedDocuments) -> None:
        self.stops: list[int] = np.cumsum(documents.sentence_lengths, dtype=np.int64).tolist()
        self.first_sentence: list[int] = [0, *np.cumsum(documents.document_sentences, dtype=np.int64).tolist()]
        self.num_documents = len(documents.document_sentences)
        self.is_word_start = documents.word_starts

    def start(self, sentence: int) -> int:
        return self.stops[sentence - 1] if sentence else 0

    def range_of(self, document: int) -> tuple[int, int]:
        return self.start(self.first_sentence[document]), self.start(self.first_sentence[document + 1])

    def starts_sentence(self, position: int) -> bool:
        return position == self.start(bisect_right(self.stops, position))

    def word_start_inside(self, start: int, stop: int, draw: float) -> int | None:
        """Return one of the word starts in (start, stop), or None when one word fills the range."""
        inside = np.flatnonzero(self.is_word_start[start + 1 : stop])
        return start + 1 + int(inside[int(draw * len(inside))]) if len(inside) else None


def _walk_document(
    text: _Text, document: int, max_tokens: int, short_seq_prob: float, draws: Iterator[list[float]]
) -> tuple[list[Row], int]:
    """Return the rows of one document, not yet truncated, and the position that was reached."""
    position, end = text.range_of(document)
    last_sentence = text.first_sentence[document + 1]
    rows: list[Row] = []
    while position < end:
        short, length, split, coin, *random_draws = next(draws)
        target = 2 + int(length * (max_tokens - 1)) if short < short_seq_prob else max_tokens
        sentence = bisect_right(text.stops, position)
        reached = bisect_left(text.stops, position + target, lo=sentence) + 1
        num_sentences = min(max(reached, sentence + 2), last_sentence) - sentence
        stop = text.stops[sentence + num_sentences - 1]
        is_cut = num_sentences == 1
        middle = (
            text.word_start_inside(position, stop, split)
            if is_cut
            else text.stops[sentence + int(split * (num_sentences - 1))]
        )
        if middle is None:
            break
        if coin < 0.5 and text.num_documents > 1:
            b_start, b_stop = _random_b(text, document, target - (middle - position), is_cut, random_draws)
            rows.append((position, middle, b_start, b_stop, 1))
            position = middle
        else:
            rows.append((position, middle, middle, stop, 0))
            position = stop
    return rows, position


def _random_b(text: _Text, document: int, target: int, is_cut: bool, draws: list[float]) -> tuple[int, int]:
    """Return the range of whole sentences of another document with `target` tokens or more, if it has as many.

    When `is_cut`, the range starts at a word inside its first sentence instead (if that has more than one).
    """
    which, where, word = draws
    other = int(which * (text.num_documents - 1))
    other += other >= document
    first, last = text.first_sentence[other], text.first_sentence[other + 1]
    sentence = first + int(where * (last - first))
    start = text.start(sentence)
    if is_cut:
        start = text.word_start_inside(start, text.stops[sentence], word) or start
    return start, text.stops[min(bisect_left(text.stops, start + target, lo=sentence), last - 1)]


def _uniform_draws(rng: np.random.Generator) -> Iterator[list[float]]:
    """Yield rows of seven numbers in [0, 1): what one chunk may need, drawn whether it needs them or not."""
    while True:
        yield from rng.random((1024, 7)).tolist()
