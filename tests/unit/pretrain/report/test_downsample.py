import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.report.downsample import pick, thin


@settings(max_examples=200)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 40))
def test_few_points_keep_extremes_and_the_mean_of_all(values: list[float], most: int) -> None:
    column = np.array(values)
    points = thin(np.arange(1.0, len(values) + 1), column, most)
    assert len(points.mean) == min(len(values), most)
    assert (points.low.min(), points.high.max()) == (column.min(), column.max())
    assert np.all(points.low <= points.mean + 1e-6)
    assert np.all(points.mean <= points.high + 1e-6)
    assert np.all(np.diff(points.steps) > 0)
    counts = np.diff(np.append(np.linspace(0, len(values), len(points.mean) + 1).astype(int)[:-1], len(values)))
    assert np.sum(points.mean * counts) == pytest.approx(column.sum(), abs=1e-3)


def test_of_names_some_are_picked_as_they_are_the_first_and_the_last_too() -> None:
    steps, names = np.arange(1000.0), np.arange(1000.0) % 7
    points = pick(steps, names, 50)
    assert (len(points.steps), points.steps[0], points.steps[-1]) == (50, 0, 999)
    assert np.array_equal(points.mean, names[points.steps.astype(int)])
    assert not points.is_thinned
    assert pick(steps[:3], names[:3], 50).mean.tolist() == [0, 1, 2]


def test_a_short_column_stays_as_it_is() -> None:
    steps, values = np.array([10.0, 20.0]), np.array([3.0, 1.0])
    points = thin(steps, values, 2)
    assert (points.steps.tolist(), points.mean.tolist(), points.is_thinned) == ([10, 20], [3, 1], False)
    assert thin(np.arange(4.0), np.array([3.0, 1.0, 2.0, 2.0]), 2).is_thinned
