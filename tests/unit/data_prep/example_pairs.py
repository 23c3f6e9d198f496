"""What tests of pairs measure: which document a token is of, how often a token is used, what lengths say of labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import BertWordPieceTokenizer

from data_prep.pairing.pairs import SegmentPairs
from data_prep.seeds import generator
from data_prep.tokenized import TokenizedDocuments
from tests.unit.data_prep.example_documents import documents_of, wikipedia_documents


class MakePairs(Protocol):
    """What makes pairs of the documents of a bucket."""

    def __call__(
        self, documents: TokenizedDocuments, *, max_seq_length: int, short_seq_prob: float, rng: np.random.Generator
    ) -> tuple[SegmentPairs, dict[str, int]]: ...


def maker(make_pairs: MakePairs, max_seq_length: int) -> Callable[..., tuple[SegmentPairs, dict[str, int]]]:
    """Return `make_pairs` with defaults, and a seed instead of a generator."""

    def make(
        documents: TokenizedDocuments,
        *,
        max_seq_length: int = max_seq_length,
        short_seq_prob: float = 0.1,
        seed: int = 0,
    ) -> tuple[SegmentPairs, dict[str, int]]:
        return make_pairs(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, rng=generator(seed))

    return make


def sentence_stops(documents: TokenizedDocuments) -> np.ndarray:
    return np.cumsum(documents.sentence_lengths, dtype=int)


def document_at(documents: TokenizedDocuments, positions: np.ndarray) -> np.ndarray:
    stops = sentence_stops(documents)[np.cumsum(documents.document_sentences, dtype=int) - 1]
    return np.searchsorted(stops, positions, side="right")


def count_uses(documents: TokenizedDocuments, pairs: SegmentPairs, *, borrowed: np.ndarray) -> np.ndarray:
    """Return how many segments each token is in, int [tokens]; the Bs of `borrowed` pairs do not count."""
    uses = np.zeros(len(documents.token_ids), dtype=int)
    for row in range(len(pairs)):
        uses[pairs.a_starts[row] : pairs.a_starts[row] + pairs.a_lengths[row]] += 1
        if not borrowed[row]:
            uses[pairs.b_starts[row] : pairs.b_starts[row] + pairs.b_lengths[row]] += 1
    return uses


def share_guessed_from_lengths(pairs: SegmentPairs) -> dict[str, float]:
    """Return how many labels of each hundred the best threshold on a length guesses, as a share, of equally many."""
    assert pairs.labels is not None
    lengths = {"A": pairs.a_lengths, "B": pairs.b_lengths, "both": pairs.a_lengths + pairs.b_lengths}
    return {name: _best_threshold(length, pairs.labels == 1) for name, length in lengths.items()}


def _best_threshold(values: np.ndarray, labels: np.ndarray) -> float:
    below = [np.cumsum(np.bincount(values[chosen], minlength=values.max() + 1)) for chosen in (labels, ~labels)]
    return float(0.5 + np.abs(below[0] / labels.sum() - below[1] / (~labels).sum()).max() / 2)


def short_documents(count: int, seed: int = 0) -> TokenizedDocuments:
    """Return `count` documents of 2 to 7 sentences of very unlike lengths, 22 tokens on average."""
    rng = np.random.default_rng(seed)
    lengths = [(2 + rng.geometric(0.05, size=rng.integers(2, 8))).tolist() for _ in range(count)]
    return documents_of(lengths, seed=seed)


def bert_wikipedia(shared_data: Path, count: int) -> TokenizedDocuments:
    """Return the first `count` Wikipedia articles in the vocabulary of BERT."""
    vocabulary = shared_data / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    return wikipedia_documents(shared_data, BertWordPieceTokenizer(str(vocabulary)), count)


def cut_into_short_documents(documents: TokenizedDocuments, seed: int = 0) -> TokenizedDocuments:
    """Return the same text as documents of 1 to 7 sentences."""
    num_sentences = len(documents.sentence_lengths)
    stops = np.cumsum(np.random.default_rng(seed).integers(1, 8, size=num_sentences))
    stops = np.append(stops[stops < num_sentences], num_sentences)
    return replace(
        documents,
        ids=np.frombuffer(np.arange(2 * len(stops), dtype=np.uint64).tobytes(), dtype="V16"),
        document_sentences=np.diff(stops, prepend=0),
    )
