"""Sentences -> token ids, exactly those of `tokenizers`, at several times its speed where its rules allow a word cache.

BERT's normalizer and pre-tokenizer look at one character at a time and part words at every space, line feed, Chinese
character and mark of punctuation. What lies between two of those is tokenized the same wherever it stands.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from conf.checks import require
from data_prep.byte_encoder import ByteEncoder
from data_prep.config import WordSegmenter
from data_prep.token_cache import Cache, EncodedSentences, Ragged, encode_parts, encode_texts
from data_prep.unigram_encoder import UnigramEncoder
from data_prep.word_segmenter import find_word_starts

# The characters that tokenizers' BertNormalizer sets between spaces: those of google-research/bert's `_is_chinese_char`
# but for 2B820 to 2B91F, which it leaves out. A test asks it for every code point.
_CHINESE = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f\U0002b920-\U0002ceaf"
    "\U0002f800-\U0002fa1f"
)
_PIECES = re.compile(f"[{_CHINESE}]|[^{_CHINESE} \n]+")
# The ASCII punctuation that BertPreTokenizer sets apart, and what lies between. Other punctuation is left to it.
_WORDS = re.compile(r"[!-/:-@\[-`{-~]|[^!-/:-@\[-`{-~]+")
_CHINESE_CHARACTER = re.compile(f"[{_CHINESE}]")


class Encoder(Protocol):
    """What scatter needs of a tokenizer."""

    vocab_size: int
    reads_spaces: bool  # whether white space before a sentence is part of its first token

    def encode(self, sentences: Sequence[str]) -> EncodedSentences:
        """Return the tokens of the sentences, in order."""
        ...


class PlainEncoder:
    """Leaves every sentence to `tokenizers`."""

    reads_spaces = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.get_vocab()
        prefix = tokenizer.model.continuing_subword_prefix
        self.tokenizer = tokenizer
        self.vocab_size = max(vocabulary.values()) + 1
        self.continues_word = np.zeros(self.vocab_size, dtype=np.bool_)
        self.continues_word[[number for token, number in vocabulary.items() if token.startswith(prefix)]] = True

    def encode(self, sentences: Sequence[str]) -> EncodedSentences:
        """Return the tokens of the sentences. A word starts at every token without the continuation prefix `##`."""
        token_ids, lengths = self.encode_texts(sentences)
        return EncodedSentences(token_ids=token_ids, lengths=lengths, word_starts=~self.continues_word[token_ids])

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Return the token ids of the texts, by `tokenizers`."""
        return encode_texts(self.tokenizer, texts)


class WordCacheEncoder:
    """Cuts sentences where BERT's rules part words anyway, and asks `tokenizers` once for each distinct word."""

    reads_spaces = False

    def __init__(self, tokenizer: Tokenizer, word_segmenter: WordSegmenter | None = None) -> None:
        self.plain = PlainEncoder(tokenizer)
        self.vocab_size = self.plain.vocab_size
        self.parts_chinese = tokenizer.normalizer.handle_chinese_chars
        self.find_words = find_word_starts if word_segmenter is WordSegmenter.jieba else None
        # What stands between spaces is mostly known with its commas and quotes; only what is not is cut into words.
        self.words = Cache(self.plain.encode_texts)
        self.pieces = Cache(lambda pieces: encode_parts(self.words, list(map(_WORDS.findall, pieces))))

    def encode(self, sentences: Sequence[str]) -> EncodedSentences:
        """Return the tokens of the sentences.

        A word starts at every token without the continuation prefix `##`; but among Chinese characters, tokens of their
        own, only where the word segmenter begins one, if there is a segmenter.
        """
        split = list(map(self._split, sentences))
        token_ids, lengths = encode_parts(self.pieces, split)
        word_starts = ~self.plain.continues_word[token_ids]
        if self.find_words:
            word_starts[self._tokens_inside_words(sentences, split)] = False
        return EncodedSentences(token_ids=token_ids, lengths=lengths, word_starts=word_starts)

    def _split(self, sentence: str) -> list[str]:
        if self.parts_chinese and not sentence.isascii():
            return _PIECES.findall(sentence)
        return sentence.replace("\n", " ").split(" ")

    def _tokens_inside_words(self, sentences: Sequence[str], split: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Return the indices of the tokens whose Chinese character continues a word."""
        inside = chain.from_iterable(map(self._inside_word, sentences, split))
        pieces = list(chain.from_iterable(split))
        lengths = self.pieces.encode(pieces).lengths
        is_inside = np.fromiter(inside, np.bool_, len(pieces)) & (lengths > 0)
        return (np.cumsum(lengths) - lengths)[is_inside]

    def _inside_word(self, sentence: str, pieces: Sequence[str]) -> Sequence[bool]:
        """Return for each piece whether it is a Chinese character that continues a word."""
        assert self.find_words is not None
        if not self.parts_chinese or not _CHINESE_CHARACTER.search(sentence):
            return [False] * len(pieces)
        starts = self.find_words(sentence)
        matches = _PIECES.finditer(sentence)
        return [match.start() not in starts and bool(_CHINESE_CHARACTER.match(match[0])) for match in matches]


def make_encoder(tokenizer: Tokenizer, word_segmenter: WordSegmenter | None = None) -> Encoder:
    """Return the encoder of a tokenizer. Text that spells a special token, such as "[SEP]", is text to it.

    WordPiece: words are cached when normalizer, pre-tokenizer and model are BERT's own and no added token may match
    inside text; any other tokenizer is asked for every sentence: the ids are the same, only slower. Raises ValueError
    for a word segmenter with such a tokenizer: its tokens may not be the single Chinese characters that it joins.
    """
    tokenizer.encode_special_tokens = True
    if isinstance(tokenizer.model, models.BPE):
        return ByteEncoder(tokenizer)
    if isinstance(tokenizer.model, models.Unigram):
        return UnigramEncoder(tokenizer)
    is_bert = (
        isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )
    if is_bert:
        return WordCacheEncoder(tokenizer, word_segmenter)
    remedy = "null, unless the tokenizer parts words by BERT's rules"
    require(word_segmenter is None, "sentences.word_segmenter", word_segmenter, remedy)
    return PlainEncoder(tokenizer)


@lru_cache(maxsize=1)
def encoder_of(tokenizer_json: str, word_segmenter: WordSegmenter | None) -> Encoder:
    """Return the encoder of a tokenizer.json's text; tasks of one process share it, and with it its cache."""
    return make_encoder(Tokenizer.from_str(tokenizer_json), word_segmenter)
