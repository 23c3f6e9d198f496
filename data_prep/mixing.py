"""Weights of the sources of a corpus -> how often each document is taken. numpy only, a pure function.

A weight is a source's share of all tokens. As many tokens are taken as there are, so a source with less than its share
is repeated and one with more is thinned out. Nothing is drawn: in every bucket the uses of a source's documents are
spread evenly over documents and copies, and their number is right to one document; over all buckets likewise.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import IntArray

_PREFIX = "source."
GOLDEN_RATIO = (5**0.5 - 1) / 2


def uses_per_copy(
    names: Sequence[str], tokens: Sequence[int], weights: Sequence[float] | None, exponent: float | None
) -> NDArray[np.float64]:
    """Return how often a document of each source is taken in one copy, float64 [sources], from the sources' tokens.

    Shares go by `weights`, or by tokens ** `exponent` (0.7 in google-research/bert's multilingual.md), or, with
    neither, by tokens: once each. Raises ValueError for a source without tokens that is to have a share.
    """
    counts = np.array(tokens, dtype=np.float64)
    if weights is None and exponent is None:
        return np.ones(len(counts))
    shares = np.array(weights, dtype=np.float64) if exponent is None else np.where(counts > 0, counts, 0) ** exponent
    empty = np.flatnonzero((counts == 0) & (shares > 0))
    if len(empty):
        raise ValueError(
            f"corpus.sources: {names[empty[0]]} is to have a share of the tokens, but has none of its own (left out, "
            "or an earlier source's too): take it out, or give it weight 0"
        )
    return shares / shares.sum() * counts.sum() / np.maximum(counts, 1)


def counts_of_source(name: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Return the documents and tokens among `counts` under names that `split_sources` knows as those of a source."""
    return {f"{_PREFIX}{name}.{key}": counts[key] for key in ("documents", "tokens")}


def split_sources(counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Return the counts that are of no source, and those of each source: name -> documents, tokens."""
    plain: dict[str, int] = {}
    sources: dict[str, dict[str, int]] = {}
    for name, count in counts.items():
        if name.startswith(_PREFIX):
            source, _, key = name.removeprefix(_PREFIX).rpartition(".")
            sources.setdefault(source, {})[key] = count
        else:
            plain[name] = count
    return plain, sources


def count_uses(sources: IntArray, per_copy: NDArray[np.float64], copy: int, bucket: int) -> NDArray[np.int64]:
    """Return how often each document of a bucket is taken in `copy`, int64 [documents].

    `sources`, int [documents], tells each one's source; documents must come in an order of their own, such as by id.
    Document j of n of its source has the phase (j + u) / n: summed over documents, the uses up to any copy are within
    one of n times `per_copy` a copy, and so they are for each document alone. u steps through the buckets by the golden
    ratio, so that what is rounded in one is made up for in others.
    """
    offset = (0.5 + bucket * GOLDEN_RATIO) % 1
    uses = np.zeros(len(sources), dtype=np.int64)
    for source, amount in enumerate(per_copy.tolist()):
        rows = np.flatnonzero(sources == source)
        phases = (np.arange(len(rows)) + offset) / max(len(rows), 1)
        uses[rows] = np.floor((copy + 1) * amount + phases) - np.floor(copy * amount + phases)
    return uses


def group_uses(sources: IntArray, uses: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return rows, int64 [documents] each: groups of one source that hold document i `uses[i]` times, each once.

    A source has as many groups as its most used document has uses; documents that are used less are spread over them.
    """
    groups: list[NDArray[np.int64]] = []
    for source in np.unique(sources):
        rows = np.flatnonzero((sources == source) & (uses > 0))
        count = int(uses[rows].max(initial=0))
        group_of = [(np.arange(len(rows)) + use * count // uses[rows]) % count for use in range(count)]
        for number in range(count):
            is_in = np.zeros(len(rows), dtype=np.bool_)
            for use, chosen in enumerate(group_of):
                is_in |= (chosen == number) & (use < uses[rows])
            groups.append(rows[is_in])
    return groups
