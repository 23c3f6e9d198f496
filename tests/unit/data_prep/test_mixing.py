import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.mixing import count_uses, rounds_of, uses_per_copy

AMOUNTS = st.lists(st.floats(0, 5), min_size=1, max_size=4)


def test_weights_are_shares_of_tokens_and_their_sum_stays() -> None:
    tokens = [900, 100]
    per_copy = uses_per_copy(tokens, [1.0, 3.0], None)
    np.testing.assert_allclose(per_copy * tokens, [250, 750])


def test_an_exponent_flattens_the_shares_as_for_multilingual_bert() -> None:
    tokens = [10**6, 10**3]
    taken = uses_per_copy(tokens, None, 0.7) * tokens
    assert taken.sum() == pytest.approx(sum(tokens))
    assert taken[0] / taken[1] == pytest.approx(1000**0.7)


def test_without_weights_every_document_is_taken_once() -> None:
    assert uses_per_copy([5, 0, 7], None, None).tolist() == [1, 1, 1]


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus\.sources\.1 has weight 2 but no tokens: take it out"):
        uses_per_copy([5, 0], [1.0, 2.0], None)
    assert uses_per_copy([5, 0], [1.0, 0.0], None).tolist() == [1, 0]


@given(AMOUNTS, st.integers(1, 8), st.data())
def test_uses_are_exact_to_one_document_in_all_and_to_one_use_for_each(
    amounts: list[float], copies: int, data: st.DataObject
) -> None:
    sources = np.array(data.draw(st.lists(st.integers(0, len(amounts) - 1), max_size=40)), dtype=np.uint8)
    uses = np.array([count_uses(sources, np.array(amounts), copy) for copy in range(copies)])
    total = uses.sum(axis=0)
    for source, amount in enumerate(amounts):
        of_source = total[sources == source]
        assert abs(of_source.sum() - amount * copies * len(of_source)) <= 1 + 1e-9
        assert np.all(np.abs(of_source - amount * copies) <= 1 + 1e-9)


@given(st.lists(st.integers(0, 5), max_size=20))
def test_rounds_hold_each_document_as_often_as_it_is_used_and_never_twice(uses: list[int]) -> None:
    rounds = rounds_of(np.array(uses, dtype=np.int64))
    assert np.array_equal(sum((np.bincount(rows, minlength=len(uses)) for rows in rounds), np.zeros(len(uses))), uses)
    assert all(len(set(rows.tolist())) == len(rows) > 0 for rows in rounds)
