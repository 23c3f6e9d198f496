"""Long columns -> few points that keep their extremes. Pure numpy."""

from typing import NamedTuple

import numpy as np

from pretrain.report.columns import Floats

MOST_POINTS = 240  # of a curve


class Points(NamedTuple):
    """Stretches of a column: where they lie (mean step), and the least, mean and greatest value of each."""

    steps: Floats
    low: Floats
    mean: Floats
    high: Floats

    @property
    def is_thinned(self) -> bool:
        """Whether points stand for several values."""
        return bool(np.any(self.low != self.high))


def pick(steps: Floats, values: Floats, most: int = MOST_POINTS) -> Points:
    """Return at most `most` points of a column, values as they are, evenly apart: for numbers that have no mean."""
    chosen = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(np.int64)
    return Points(steps[chosen], values[chosen], values[chosen], values[chosen])


def thin(steps: Floats, values: Floats, most: int = MOST_POINTS) -> Points:
    """Return at most `most` points for a column of finite values, each of as many of them as any other, or one less."""
    if len(values) <= most:
        return Points(steps, values, values, values)
    edges = np.linspace(0, len(values), most + 1).astype(np.int64)[:-1]
    counts = np.diff(np.append(edges, len(values)))
    return Points(
        steps=np.add.reduceat(steps, edges) / counts,
        low=np.minimum.reduceat(values, edges),
        mean=np.add.reduceat(values, edges) / counts,
        high=np.maximum.reduceat(values, edges),
    )
