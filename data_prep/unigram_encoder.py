"""Sentences -> tokens and words of a unigram tokenizer, as `tokenizers` cuts them but for spelled special tokens."""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.token_cache import EncodedSentences, encode_texts
from data_prep.unigram import WORD_MARK, without_special_pieces

# Thai, Lao, Tibetan, Myanmar and Khmer; Han, Kana and their kin, but not Hangul.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff]"
)


class UnigramEncoder:
    """Leaves every sentence to `tokenizers`."""

    reads_spaces = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = without_special_pieces(tokenizer)
        vocabulary = self.tokenizer.get_vocab()
        self.vocab_size = max(vocabulary.values()) + 1

        def tokens(fits: Callable[[str], bool]) -> NDArray[np.bool_]:
            chosen = np.zeros(self.vocab_size, dtype=np.bool_)
            chosen[[number for piece, number in vocabulary.items() if fits(piece)]] = True
            return chosen

        self.is_marked = tokens(lambda piece: piece.startswith(WORD_MARK))
        self.is_bare = tokens(lambda piece: piece == WORD_MARK)
        self.is_letters = tokens(lambda piece: _is_letters(piece.removeprefix(WORD_MARK)))

    def encode(self, sentences: Sequence[str]) -> EncodedSentences:
        """Return the tokens of the sentences.

        A word starts at `▁` and at every piece but letters after letters: marks of punctuation, numbers and Chinese
        characters too. google-research/albert masks whole words so (`_is_start_piece_sp`), but for English letters
        only, and its words go on after a mark of punctuation.
        """
        token_ids, lengths = encode_texts(self.tokenizer, sentences)
        letters = self.is_letters[token_ids]
        continues = ~self.is_marked[token_ids]
        continues[1:] &= (letters[1:] & letters[:-1]) | self.is_bare[token_ids[:-1]]
        continues[(np.cumsum(lengths) - lengths)[lengths > 0]] = False
        return EncodedSentences(token_ids=token_ids, lengths=lengths, word_starts=~continues)


def _is_letters(piece: str) -> bool:
    """Return whether a piece is of letters, with their marks, of a script that parts words by spaces."""
    has_letters_only = all(unicodedata.category(character)[0] in "LM" for character in piece)
    return bool(piece) and has_letters_only and not _WITHOUT_SPACES.search(piece)
