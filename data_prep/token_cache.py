"""Strings -> token ids, each string looked up once: what encoders have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.shard_format import ragged_indices

# What a cache may hold, reckoned as 200 bytes and 4 a character each; a corpus without end has words without end.
MAX_CACHE_BYTES = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSentences:
    """Sentences end to end, without special tokens."""

    token_ids: NDArray[np.int64]  # [tokens]
    lengths: NDArray[np.int64]  # [sentences]: tokens; 0 where nothing of a sentence is a token
    word_starts: NDArray[np.bool_]  # [tokens]


class Ragged(NamedTuple):
    """Token ids of strings, end to end."""

    token_ids: NDArray[np.int64]  # [tokens]
    lengths: NDArray[np.int64]  # [strings]: tokens


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Ragged:
    """Return the token ids of the texts, by `tokenizers`."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Ragged(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)


class Cache:
    """Remembers the token ids of strings, and asks `encode` for those it has not met. Bounded by `MAX_CACHE_BYTES`."""

    def __init__(self, encode: Callable[[Sequence[str]], Ragged]) -> None:
        self._encode = encode
        self._forget()

    def _forget(self) -> None:
        self.rows = _Rows()
        self.known = Ragged(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self.bytes = 0

    def encode(self, strings: Sequence[str]) -> Ragged:
        """Return the token ids of the strings."""
        if self.bytes > MAX_CACHE_BYTES:
            self._forget()
        rows = np.fromiter(map(self.rows.__getitem__, strings), np.int64, len(strings))
        if self.rows.new:
            new = self._encode(self.rows.new)
            joined = map(np.concatenate, zip(self.known, new, strict=True))
            self.known = Ragged(*joined)
            self.bytes += sum(200 + 4 * len(string) for string in self.rows.new)
            self.rows.new = []
        return Ragged(self.known.token_ids[ragged_indices(self.known.lengths, rows)], self.known.lengths[rows])


class _Rows(dict[str, int]):
    """String -> row; one not met before gets the next row and is noted in `new`."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, string: str) -> int:
        row = self[string] = len(self)
        self.new.append(string)
        return row


def encode_parts(cache: Cache, parts: Sequence[Sequence[str]]) -> Ragged:
    """Return the token ids of strings that are given in parts."""
    token_ids, lengths = cache.encode(list(chain.from_iterable(parts)))
    token_stops = np.concatenate(([0], np.cumsum(lengths)))
    part_stops = np.concatenate(([0], np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))))
    return Ragged(token_ids, np.diff(token_stops[part_stops]))
