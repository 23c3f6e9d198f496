import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.mixing import count_uses, group_uses, uses_per_copy

AMOUNTS = st.lists(st.floats(0, 5), min_size=1, max_size=4)


def test_weights_are_shares_of_tokens_and_their_sum_stays() -> None:
    tokens = [900, 100]
    per_copy = uses_per_copy("ab", tokens, [1.0, 3.0], None)
    np.testing.assert_allclose(per_copy * tokens, [250, 750])


def test_an_exponent_flattens_the_shares_as_for_multilingual_bert() -> None:
    tokens = [10**6, 10**3]
    taken = uses_per_copy("ab", tokens, None, 0.7) * tokens
    assert taken.sum() == pytest.approx(sum(tokens))
    assert taken[0] / taken[1] == pytest.approx(1000**0.7)


def test_without_weights_every_document_is_taken_once() -> None:
    assert uses_per_copy("abc", [5, 0, 7], None, None).tolist() == [1, 1, 1]


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus\.sources: b is to have a share of the tokens, but has none"):
        uses_per_copy("ab", [5, 0], [1.0, 2.0], None)
    assert uses_per_copy("ab", [5, 0], [1.0, 0.0], None).tolist() == [1, 0]


@given(AMOUNTS, st.integers(1, 8), st.integers(0, 50), st.data())
def test_uses_are_exact_to_one_document_in_all_and_to_one_use_for_each(
    amounts: list[float], copies: int, bucket: int, data: st.DataObject
) -> None:
    sources = np.array(data.draw(st.lists(st.integers(0, len(amounts) - 1), max_size=40)), dtype=np.uint8)
    uses = np.array([count_uses(sources, np.array(amounts), copy, bucket) for copy in range(copies)])
    total = uses.sum(axis=0)
    for source, amount in enumerate(amounts):
        of_source = total[sources == source]
        assert abs(of_source.sum() - amount * copies * len(of_source)) <= 1 + 1e-9
        assert np.all(np.abs(of_source - amount * copies) <= 1 + 1e-9)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=20))
def test_groups_hold_each_document_as_often_as_it_is_used_and_never_twice(documents: list[tuple[int, int]]) -> None:
    sources, uses = (np.array(column, dtype=np.int64) for column in zip(*documents, strict=True)) if documents else (
        np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    )  # fmt: skip
    groups = group_uses(sources, uses)
    held = np.zeros(len(uses), dtype=np.int64)
    for rows in groups:
        assert len(set(rows.tolist())) == len(rows)
        assert len(set(sources[rows].tolist())) <= 1
        np.add.at(held, rows, 1)
    assert held.tolist() == uses.tolist()


def test_documents_that_are_used_less_are_spread_over_the_groups() -> None:
    uses = np.array([3, *[1] * 30])
    sizes = [len(rows) for rows in group_uses(np.zeros(31, dtype=np.uint8), uses)]
    assert sizes == [11, 11, 11]


@pytest.mark.parametrize(("documents", "amount"), [(1, 0.4), (1, 0.6), (1, 1.4), (2, 0.4), (3, 2.7)])
def test_what_is_rounded_in_one_bucket_is_made_up_for_in_others(documents: int, amount: float) -> None:
    sources = np.zeros(documents, dtype=np.uint8)
    taken = sum(int(count_uses(sources, np.array([amount]), 0, bucket).sum()) for bucket in range(100))
    assert abs(taken - 100 * documents * amount) < 3
