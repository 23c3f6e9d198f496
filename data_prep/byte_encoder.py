"""Sentences -> tokens of a byte-level BPE, exactly those of `tokenizers`, with a word cache where its rules allow one.

GPT-2's pre-tokenizer gives a space to the word after it, and takes nothing together that has white space after text.
So a stretch of white space and the text up to the next one are tokenized the same wherever they stand.
"""

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.byte_bpe import is_robertas
from data_prep.shard_format import ragged_indices
from data_prep.token_cache import Cache, EncodedSentences, Ragged, encode_parts

# The white space of Unicode, as the pre-tokenizer's regex knows it; Python's has 1C to 1F too.
_WHITE = " \t-\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PIECES = re.compile(f"[{_WHITE}]*[^{_WHITE}]+|[{_WHITE}]+")

# That regex, for pieces of ASCII, Latin letters and the usual quotes and dashes; a test asks `tokenizers` about each of
# them. What holds other characters is left to it.
_LATIN = "A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\u024f"
_KNOWN = re.compile(f"[\0-\x7f{_LATIN}\u2013\u2014\u2018-\u201d\u2026]*")
_WORDS = re.compile(
    f"'s|'t|'re|'ve|'m|'ll|'d| ?[{_LATIN}]+| ?[0-9]+| ?[^{_WHITE}{_LATIN}0-9]+|[{_WHITE}]+(?![^{_WHITE}])|[{_WHITE}]+"
)

# Sentences with fewer spaces, as in scripts without them, have no words to remember.
MAX_CHARACTERS_A_SPACE = 12


class ByteEncoder:
    """Cuts sentences before white space and asks `tokenizers` once for each distinct piece.

    Whole sentences are asked for where that is no gain, and where the tokenizer has rules of its own.
    """

    reads_spaces = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        is_cuttable = is_robertas(tokenizer) and not tokenizer.pre_tokenizer.add_prefix_space
        # What stands between spaces is mostly known with its commas and quotes; only what is not is cut into words.
        self.words = Cache(self.encode_texts)
        self.pieces = Cache(lambda pieces: encode_parts(self.words, list(map(_words, pieces)))) if is_cuttable else None

    def encode(self, sentences: Sequence[str]) -> EncodedSentences:
        """Return the tokens of the sentences.

        A word starts where the pre-tokenizer begins one: at letters, digits or other characters with the space before
        them, and at 's, 't and their like.
        """
        codes, lengths = self._encode(sentences)
        return EncodedSentences(token_ids=codes >> 1, lengths=lengths, word_starts=(codes & 1).astype(np.bool_))

    def _encode(self, sentences: Sequence[str]) -> Ragged:
        if self.pieces is None:
            return self.encode_texts(sentences)
        has_words = np.array([_has_words(sentence) for sentence in sentences], dtype=np.bool_)
        pieces = [_pieces(sentence) for sentence, cut in zip(sentences, has_words, strict=True) if cut]
        whole = [sentence for sentence, cut in zip(sentences, has_words, strict=True) if not cut]
        parts = encode_parts(self.pieces, pieces), self.encode_texts(whole)
        found = Ragged(*map(np.concatenate, zip(*parts, strict=True)))
        rows = np.argsort(np.argsort(~has_words, kind="stable"))
        return Ragged(found.token_ids[ragged_indices(found.lengths, rows)], found.lengths[rows])

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Return the tokens of the texts, by `tokenizers`, as codes: twice the id, and one more where a word starts."""
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        num_tokens = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(rows), np.int64, num_tokens)
        words = np.fromiter(chain.from_iterable(encoding.word_ids for encoding in encodings), np.int64, num_tokens)
        return Ragged(2 * ids + _begins(words, lengths), lengths)


def _has_words(sentence: str) -> bool:
    return sentence.isascii() or len(sentence) <= MAX_CHARACTERS_A_SPACE * sentence.count(" ")


def _pieces(sentence: str) -> list[str]:
    if sentence.isprintable() and "  " not in sentence:  # no white space but single spaces: the same, sooner
        return sentence.replace(" ", "\n ").split("\n")
    return _PIECES.findall(sentence)


def _words(piece: str) -> list[str]:
    return _WORDS.findall(piece) if _KNOWN.fullmatch(piece) else [piece]


def _begins(words: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether a word starts, bool [tokens]: texts end to end, with the number of each token's word inside."""
    begins = np.append(True, words[1:] != words[:-1])[: len(words)]
    begins[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    return begins
