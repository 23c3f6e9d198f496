import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.documents import Buckets, bucket_of, clean_text, document_id, is_held_out, place_document

WHITE_SPACE = {chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()}


def test_every_invisible_character_of_this_python_is_removed_and_no_other_is() -> None:
    # Those unassigned here may be format characters in a newer Unicode.
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    known = [one for one in every if unicodedata.category(one) != "Cn" and one not in WHITE_SPACE]
    removed = {one for one in known if unicodedata.category(one) in ("Cc", "Cf", "Cs") or one in "\ufffc\ufffd"}
    # Quotes do not compose with anything, so that combining marks stay as they are.
    cleaned = clean_text("\n".join(f'"{one}"' for one in known)).split("\n")
    assert cleaned == ['""' if one in removed else f'"{unicodedata.normalize("NFC", one)}"' for one in known]


@given(st.text())
@settings(deadline=None, max_examples=300)
def test_cleaning_is_idempotent_and_leaves_folded_white_space(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == cleaned.strip()
    assert set(cleaned) & WHITE_SPACE <= {" ", "\n"}
    assert not any(bad in cleaned for bad in ("  ", " \n", "\n ", "\n\n\n"))


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("e\u0301te\u0301", "été"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a \t\u3000 b\u00a0c", "a b c"),
        ("first\n \n\t\n\nsecond", "first\n\nsecond"),
        ("\x00 \n ", ""),
    ],
)
def test_cleaning_of_what_real_corpora_hold(raw: str, cleaned: str) -> None:
    assert clean_text(raw) == cleaned


def test_split_and_bucket_are_uniform_and_independent() -> None:
    buckets = Buckets(train=4, held_out=4, held_out_fraction=0.25)
    ids = [document_id(str(number)) for number in range(20_000)]
    table = np.zeros((2, 4))
    for identifier in ids:
        table[int(is_held_out(identifier, 0.25)), bucket_of(identifier, 4)] += 1
    expected = len(ids) * np.array([[0.75], [0.25]]) / 4
    # Five standard deviations of a binomial count; the ids are fixed, so this passes always or never.
    assert np.all(np.abs(table - expected) < 5 * np.sqrt(expected))
    places = np.bincount([place_document(identifier, buckets) for identifier in ids], minlength=8)
    assert places.tolist() == [*table[0], *table[1]]


def test_nothing_is_held_out_at_fraction_zero() -> None:
    buckets = Buckets(train=3, held_out=0, held_out_fraction=0.0)
    assert {place_document(document_id(str(number)), buckets) for number in range(1000)} == {0, 1, 2}


@given(st.binary(min_size=16, max_size=16), st.integers(1, 10**6))
@settings(deadline=None)
def test_a_bucket_is_in_range_for_every_id(identifier: bytes, num_buckets: int) -> None:
    assert 0 <= bucket_of(identifier, num_buckets) < num_buckets
