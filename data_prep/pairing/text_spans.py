"""Where documents, sentences and words lie in the flat tokens of a bucket."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import IntArray
from data_prep.tokenized import TokenizedDocuments


class TextSpans:
    """Positions count tokens from the first token of the bucket.

    What a walk looks up item by item is a list: bisect and single items are ten times faster there than in an array.
    """

    def __init__(self, documents: TokenizedDocuments) -> None:
        self.sentence_stops = np.cumsum(documents.sentence_lengths, dtype=np.int64)
        self.document_stops = document_stops(documents)
        self.is_word_start = documents.word_starts
        self.num_documents = len(documents.document_sentences)
        self.stops: list[int] = self.sentence_stops.tolist()
        self.first_sentence: list[int] = [0, *np.cumsum(documents.document_sentences, dtype=np.int64).tolist()]

    def start(self, sentence: int) -> int:
        """Return where a sentence begins."""
        return self.stops[sentence - 1] if sentence else 0

    def range_of(self, document: int) -> tuple[int, int]:
        """Return where a document begins and where it has ended."""
        return self.start(self.first_sentence[document]), self.start(self.first_sentence[document + 1])

    def document_of(self, positions: IntArray) -> NDArray[np.int64]:
        """Return the documents, int64 [positions], in which positions lie."""
        return np.searchsorted(self.document_stops, positions, side="right")

    def starts_sentence(self, position: int) -> bool:
        """Return whether a sentence begins there."""
        return position == self.start(bisect_right(self.stops, position))

    def ends_sentence(self, positions: IntArray) -> NDArray[np.bool_]:
        """Return whether a sentence has ended there, bool [positions]; a position is 1 or more."""
        return self.sentence_stops[np.searchsorted(self.sentence_stops, positions)] == positions

    def word_start_inside(self, start: int, stop: int, draw: float) -> int | None:
        """Return one of the word starts in (start, stop) by a draw in [0, 1), or None when one word fills the range."""
        inside = np.flatnonzero(self.is_word_start[start + 1 : stop])
        return start + 1 + int(inside[int(draw * len(inside))]) if len(inside) else None

    def count_divisible_documents(self) -> int:
        """Return how many documents have two sentences or a second word: only those can be split in two."""
        first_tokens = np.concatenate(([0], self.document_stops[:-1]))[: self.num_documents]
        words = np.add.reduceat(self.is_word_start, first_tokens, dtype=np.int64) - self.is_word_start[first_tokens]
        return int(np.count_nonzero((words > 0) | (np.diff(self.first_sentence) > 1)))


def document_stops(documents: TokenizedDocuments) -> NDArray[np.int64]:
    """Return where each document has ended, int64 [documents]."""
    sentence_stops = np.cumsum(documents.sentence_lengths, dtype=np.int64)
    return sentence_stops[np.cumsum(documents.document_sentences, dtype=np.int64) - 1]
