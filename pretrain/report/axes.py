"""Where a value lies on a plot, and which values get a mark on its axis. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.report.columns import Floats

MARKS = 5  # about so many on an axis
PADDING = 0.05  # of the range, above and below the curves


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A range of values laid on a range of pixels, evenly or by their logarithms; `whole`: marks are whole numbers."""

    low: float
    high: float
    first_pixel: float
    last_pixel: float
    logarithmic: bool = False
    whole: bool = False

    def place(self, values: Floats) -> Floats:
        """Return the pixel of each value; values outside the range lie outside."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.logarithmic else (self.low, self.high)
        share = ((np.log10(values) if self.logarithmic else values) - low) / (high - low)
        return self.first_pixel + share * (self.last_pixel - self.first_pixel)

    def marks(self) -> list[float]:
        """Return round values within the range."""
        found = log_marks(self.low, self.high) if self.logarithmic else []
        marks = found if len(found) >= 2 else even_marks(self.low, self.high)
        return [mark for mark in marks if mark == round(mark)] if self.whole else marks


def even_marks(low: float, high: float) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten that lie from `low` to `high`, about `MARKS` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / MARKS))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs((high - low) / step - MARKS))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_marks(low: float, high: float) -> list[float]:
    """Return powers of ten from `low` to `high`, every so many; with 2 and 5 times them where they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // MARKS)
    powers = range(first - first % every, last + 1, every)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in found if low <= value <= high]


def padded_range(
    lows: Sequence[float], highs: Sequence[float], *, logarithmic: bool, from_zero: bool
) -> tuple[float, float]:
    """Return the range of an axis that shows values from the least of `lows` to the greatest of `highs`.

    All are finite, and above 0 when `logarithmic`.
    """
    low, high = min(lows), max(highs)
    if logarithmic:
        spread = max(math.log10(high / low) * PADDING, 0.02)
        return low / 10**spread, high * 10**spread
    if from_zero:
        low = min(low, 0.0)
    spread = (high - low) * PADDING or abs(high) * PADDING or 1.0
    return (low if from_zero and low == 0.0 else low - spread), high + spread
