"""Documents -> chunks for next-sentence pairs: neighbouring sentences up to a target length, split in two."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.pairing.text_spans import TextSpans

Row = tuple[int, int, int, int, bool]  # the columns of `Chunks`


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Chunks in the order of the text; every column is [chunks]."""

    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    middles: NDArray[np.int64]  # where the second part begins
    stops: NDArray[np.int64]
    is_random: NDArray[np.bool_]  # whether a random B replaces the second part, which begins the next chunk

    def __len__(self) -> int:
        return len(self.documents)


def make_chunks(
    text: TextSpans, *, max_tokens: int, short_seq_prob: float, random_share: float, rng: np.random.Generator
) -> tuple[Chunks, dict[str, int]]:
    """Return the chunks of all documents, and counts of what is in none and of sentences that were cut in two.

    Both parts of a chunk are whole sentences, and its last one reaches the target. Only a sentence left alone at the
    end of a document is cut, at a word start; where it has but one word, it stays unused.
    """
    draws = uniform_rows(rng, 4)
    rows: list[Row] = []
    counts = {"documents_without_instance": 0, "sentences_unused": 0, "tokens_unused": 0}
    for document in range(text.num_documents):
        new_rows, position = _walk_document(text, document, max_tokens, short_seq_prob, random_share, draws)
        rows += new_rows
        _, stop = text.range_of(document)
        if position < stop:
            counts["documents_without_instance"] += not new_rows
            counts["sentences_unused"] += text.starts_sentence(position)
            counts["tokens_unused"] += stop - position
    documents, starts, middles, stops, is_random = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    chunks = Chunks(
        documents=documents, starts=starts, middles=middles, stops=stops, is_random=is_random.astype(np.bool_)
    )
    return chunks, counts | {"sentences_cut": int(np.sum(~text.ends_sentence(middles)))}


def _walk_document(
    text: TextSpans,
    document: int,
    max_tokens: int,
    short_seq_prob: float,
    random_share: float,
    draws: Iterator[list[float]],
) -> tuple[list[Row], int]:
    """Return the chunks of one document, and the position that was reached."""
    position, end = text.range_of(document)
    last = text.first_sentence[document + 1]
    rows: list[Row] = []
    while position < end:
        short, length, split, coin = next(draws)
        target = target_length(max_tokens, short_seq_prob, short, length)
        first = bisect_right(text.stops, position)
        reached = bisect_left(text.stops, position + target, lo=first) + 1
        after = min(max(reached, first + 2), last)
        middle = split_chunk(text, position, first, after, split)
        if middle is None:
            break
        stop = text.stops[after - 1]
        is_random = coin < random_share
        rows.append((document, position, middle, stop, is_random))
        position = middle if is_random else stop
    return rows, position


def target_length(max_tokens: int, short_seq_prob: float, short: float, length: float) -> int:
    """Return `max_tokens`, or by two draws in [0, 1) a shorter target, uniform from 2 on: as google-research/bert."""
    return 2 + int(length * (max_tokens - 1)) if short < short_seq_prob else max_tokens


def split_chunk(text: TextSpans, start: int, first: int, after: int, draw: float) -> int | None:
    """Return where the second part begins of a chunk that goes from `start` to the end of sentence `after` - 1.

    A draw in [0, 1) chooses the end of a sentence from `first` on. A single sentence is split before a word; None when
    it has but one.
    """
    if after - first > 1:
        return text.stops[first + int(draw * (after - first - 1))]
    return text.word_start_inside(start, text.stops[first], draw)


def uniform_rows(rng: np.random.Generator, width: int) -> Iterator[list[float]]:
    """Yield rows of numbers in [0, 1): what one chunk may need, drawn whether it needs them or not."""
    while True:
        yield from rng.random((1024, width)).tolist()
