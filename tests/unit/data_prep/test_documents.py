import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.documents import clean_text

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
@settings(max_examples=300)
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
