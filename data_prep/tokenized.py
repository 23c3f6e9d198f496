"""Tokenized documents as ragged columns: what scatter writes and build reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedDocuments:
    """Documents end to end. A sentence has at least one token, a document at least one sentence."""

    ids: NDArray[np.void]  # [documents] of 16 bytes ("V16"): blake2b-128 of the cleaned text
    sources: NDArray[np.uint8]  # [documents]: which of `corpus.sources`, by number
    document_sentences: IntArray  # [documents]: sentences per document
    sentence_lengths: IntArray  # [sentences]: tokens per sentence
    token_ids: IntArray  # [tokens]: no special tokens
    word_starts: NDArray[np.bool_]  # [tokens]: true at the first token of a word

    @property
    def document_tokens(self) -> NDArray[np.int64]:
        """Return the tokens per document, int64 [documents]."""
        return np.diff(_stops(self.sentence_lengths)[_stops(self.document_sentences)])


def concatenate_documents(parts: Sequence[TokenizedDocuments]) -> TokenizedDocuments:
    """Return one value with the documents of all `parts`, in order; no parts give no documents."""

    def join(arrays: list[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(arrays) if arrays else empty

    return TokenizedDocuments(
        ids=join([part.ids for part in parts], np.empty(0, "V16")),
        sources=join([part.sources for part in parts], np.empty(0, np.uint8)),
        document_sentences=join([part.document_sentences for part in parts], np.empty(0, np.uint32)),
        sentence_lengths=join([part.sentence_lengths for part in parts], np.empty(0, np.uint32)),
        token_ids=join([part.token_ids for part in parts], np.empty(0, np.uint16)),
        word_starts=join([part.word_starts for part in parts], np.empty(0, np.bool_)),
    )


def take_documents(documents: TokenizedDocuments, rows: IntArray) -> TokenizedDocuments:
    """Return the documents of the given rows, int [rows], in that order."""
    sentence_stops = _stops(documents.document_sentences)
    token_stops = _stops(documents.sentence_lengths)[sentence_stops]
    sentences = _slices(sentence_stops, rows)
    tokens = _slices(token_stops, rows)
    nothing = slice(0, 0)
    return TokenizedDocuments(
        ids=documents.ids[rows],
        sources=documents.sources[rows],
        document_sentences=documents.document_sentences[rows],
        # Slices, not index arrays: those take 8 bytes a token, four times the tokens themselves.
        sentence_lengths=np.concatenate([documents.sentence_lengths[part] for part in [nothing, *sentences]]),
        token_ids=np.concatenate([documents.token_ids[part] for part in [nothing, *tokens]]),
        word_starts=np.concatenate([documents.word_starts[part] for part in [nothing, *tokens]]),
    )


def iterate_runs(documents: TokenizedDocuments, edges: IntArray) -> Iterator[TokenizedDocuments]:
    """Yield the documents between each edge and the next, int [runs + 1] row numbers that do not fall; views."""
    sentence_edges = _stops(documents.document_sentences)[edges]
    token_edges = _stops(documents.sentence_lengths)[sentence_edges]
    for run in range(len(edges) - 1):
        rows = slice(edges[run], edges[run + 1])
        sentences = slice(sentence_edges[run], sentence_edges[run + 1])
        tokens = slice(token_edges[run], token_edges[run + 1])
        yield TokenizedDocuments(
            ids=documents.ids[rows],
            sources=documents.sources[rows],
            document_sentences=documents.document_sentences[rows],
            sentence_lengths=documents.sentence_lengths[sentences],
            token_ids=documents.token_ids[tokens],
            word_starts=documents.word_starts[tokens],
        )


def _stops(lengths: IntArray) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _slices(stops: NDArray[np.int64], rows: IntArray) -> list[slice]:
    return [slice(*edges) for edges in zip(stops[rows].tolist(), stops[rows + 1].tolist(), strict=True)]
