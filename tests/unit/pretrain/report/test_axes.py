import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.report.axes import Axis, even_marks, log_marks, padded_range

numbers = st.floats(-1e9, 1e9)


@given(numbers, st.floats(1e-6, 1e9))
def test_even_marks_are_round_few_and_within_the_range(low: float, size: float) -> None:
    if low + size - low < abs(low) * 1e-6:
        return
    marks = even_marks(low, low + size)
    assert 2 <= len(marks) <= 11
    step = marks[1] - marks[0]
    assert low - 1e-3 * step <= marks[0]
    assert marks[-1] <= low + size + 1e-3 * step


def test_marks_of_common_ranges() -> None:
    assert even_marks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert even_marks(0, 1500) == [0, 500, 1000, 1500]
    assert log_marks(0.05, 30) == [0.1, 1, 10]
    assert log_marks(0.3, 4) == pytest.approx([0.5, 1, 2])
    assert log_marks(1e-9, 1e9)[0] >= 1e-9


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.booleans(), st.booleans())
def test_the_range_holds_its_values_and_is_never_empty(low: float, size: float, log: bool, from_zero: bool) -> None:
    high = low + size
    least, most = padded_range([low], [high], logarithmic=log, from_zero=from_zero)
    assert least <= low <= high <= most
    assert least < most
    assert least == 0 or log or not from_zero


@pytest.mark.parametrize("logarithmic", [False, True])
def test_the_ends_of_the_range_lie_on_the_ends_of_the_plot(logarithmic: bool) -> None:
    axis = Axis(low=0.1, high=10, first_pixel=200, last_pixel=0, logarithmic=logarithmic)
    middle = 1.0 if logarithmic else 5.05
    assert axis.place(np.array([0.1, middle, 10])) == pytest.approx([200, 100, 0])
    assert all(math.isfinite(mark) for mark in axis.marks())
