"""Sentences that fit no instance -> parts that do; everything else stays as it is."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_prep.tokenized import TokenizedDocuments


def split_long_sentences(documents: TokenizedDocuments, max_tokens: int) -> tuple[TokenizedDocuments, int]:
    """Return the documents with every sentence over `max_tokens` in parts, and how many sentences that were.

    Parts begin at word starts and are about equal, half of `max_tokens`, up to a word more. Lists, tables
    and classical Chinese have such sentences: at 125 tokens, truncation ate 20 % of the CIA factbook and 22 % of four
    Chinese novels; with parts it is 14 %, near the 12 % of ordinary prose.
    """
    is_long = documents.sentence_lengths > max_tokens
    if not is_long.any():
        return documents, 0
    stops = np.cumsum(documents.sentence_lengths, dtype=np.int64)
    parts = {
        int(sentence): _part_lengths(
            documents.word_starts[stops[sentence] - documents.sentence_lengths[sentence] : stops[sentence]],
            max_tokens // 2,
        )
        for sentence in np.flatnonzero(is_long)
    }
    num_parts = np.ones(len(stops), dtype=np.int64)
    num_parts[is_long] = [len(lengths) for lengths in parts.values()]
    lengths = np.repeat(documents.sentence_lengths, num_parts)
    lengths[np.repeat(is_long, num_parts)] = np.concatenate(list(parts.values()))
    document_starts = np.cumsum(documents.document_sentences, dtype=np.int64) - documents.document_sentences
    document_parts = np.add.reduceat(num_parts, document_starts)
    return replace(documents, sentence_lengths=lengths, document_sentences=document_parts), len(parts)


def _part_lengths(word_starts: NDArray[np.bool_], part_tokens: int) -> NDArray[np.int64]:
    """Return the lengths, int64 [parts], of about equal parts of one sentence, each from a word start to the next."""
    length = len(word_starts)
    num_parts = -(-length // part_tokens)
    wanted = np.arange(1, num_parts) * length // num_parts
    words = np.flatnonzero(word_starts[1:]) + 1
    before = np.searchsorted(words, wanted, side="right") - 1
    cuts = np.unique(words[before[before >= 0]])
    return np.diff(np.concatenate(([0], cuts, [length])))
