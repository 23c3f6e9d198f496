"""Statistics of an audit -> a picture: how long instances are, and where in them tokens are masked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_prep.audit_report import SplitStatistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = 64


def draw_picture(splits: Mapping[str, SplitStatistics]) -> "Figure":
    """Return a figure with a row of two histograms per split.

    The second shows, for each position, the share of the instances reaching it that are masked there: flat, as masks
    are drawn, but for the special tokens at the ends.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3 * len(splits)), layout="constrained")
    panels = figure.subplots(len(splits), 2, squeeze=False)
    for (lengths, masks), (split, statistics) in zip(panels, splits.items(), strict=True):
        longest = len(statistics.lengths) - 1
        edges = np.unique(np.linspace(0, longest, BARS + 1).astype(int))
        lengths.stairs(np.add.reduceat(statistics.lengths[1:], edges[:-1]), edges + 0.5, fill=True)
        lengths.set(title=f"{split}: {statistics.counts['instances']:,} instances", xlabel="tokens", ylabel="instances")
        reaching = np.cumsum(statistics.lengths[::-1])[::-1][1:]
        masks.plot(np.arange(longest), statistics.masks / np.maximum(reaching, 1), linewidth=1)
        masks.set(title=f"{split}: masked", xlabel="position", ylabel="share of instances", ylim=(0, None))
    return figure
