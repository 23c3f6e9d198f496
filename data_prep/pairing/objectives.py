"""`pairs.kind` and `pairs.recipe` -> how the documents of a bucket become instances."""

import numpy as np

from data_prep.config import PairKind, PairRecipe, PairsConfig
from data_prep.pairing.full_sentences import NUM_OUTER_TOKENS, join_full_sentences
from data_prep.pairing.long_sentences import split_long_sentences
from data_prep.pairing.next_sentence import make_next_sentence_pairs
from data_prep.pairing.pairs import NUM_SPECIAL_TOKENS, SegmentPairs
from data_prep.pairing.reference_pairs import make_reference_pairs
from data_prep.pairing.sentence_order import make_sentence_order_pairs
from data_prep.tokenized import TokenizedDocuments


def make_pairs(
    documents: TokenizedDocuments, config: PairsConfig, *, max_seq_length: int, rng: np.random.Generator
) -> tuple[SegmentPairs, dict[str, int]]:
    """Return the instances of all documents, as ranges of their tokens in the order given, and counts of what was done.

    `sentences_split` counts sentences that fit no instance; the reference recipe leaves them whole and truncates.
    """
    short_seq_prob = config.short_seq_prob
    if config.recipe is PairRecipe.google_research:
        return make_reference_pairs(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, rng=rng)
    num_special = NUM_OUTER_TOKENS if config.kind is PairKind.none else NUM_SPECIAL_TOKENS
    documents, num_split = split_long_sentences(documents, max_seq_length - num_special)
    if config.kind is PairKind.none:
        pairs, counts = join_full_sentences(documents, max_seq_length=max_seq_length)
    else:
        make = make_next_sentence_pairs if config.kind is PairKind.nsp else make_sentence_order_pairs
        pairs, counts = make(documents, max_seq_length=max_seq_length, short_seq_prob=short_seq_prob, rng=rng)
    return pairs, {"sentences_split": num_split, **counts}
