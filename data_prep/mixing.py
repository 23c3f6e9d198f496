"""Weights of the sources of a corpus -> how often each document is taken. numpy only, a pure function.

A weight is a source's share of all tokens. As many tokens are taken as there are, so a source with less than its share
is repeated and one with more is thinned out. Nothing is drawn: in every bucket the uses of a source's documents are
spread evenly over documents and copies, and their number is right to one document.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.shard_format import IntArray

_PREFIX = "source."


def uses_per_copy(
    tokens: Sequence[int], weights: Sequence[float] | None, exponent: float | None
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
        raise ValueError(f"corpus.sources.{empty[0]} has weight {shares[empty[0]]:g} but no tokens: take it out")
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


def count_uses(sources: IntArray, per_copy: NDArray[np.float64], copy: int) -> NDArray[np.int64]:
    """Return how often each document of a bucket is taken in `copy`, int64 [documents].

    `sources`, int [documents], tells each one's source; documents must come in an order of their own, such as by id.
    Document j of n of its source has the phase (j + 1/2) / n: summed over documents, the uses up to any copy are within
    one of n times `per_copy` a copy; and so they are for each document alone.
    """
    uses = np.zeros(len(sources), dtype=np.int64)
    for source, amount in enumerate(per_copy.tolist()):
        rows = np.flatnonzero(sources == source)
        phases = (np.arange(len(rows)) + 0.5) / max(len(rows), 1)
        uses[rows] = np.floor((copy + 1) * amount + phases) - np.floor(copy * amount + phases)
    return uses


def rounds_of(uses: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return rows, int64 [documents] each, such that row i is in the first `uses[i]` of them: none twice in one."""
    return [np.flatnonzero(uses > number) for number in range(int(uses.max(initial=0)))]
