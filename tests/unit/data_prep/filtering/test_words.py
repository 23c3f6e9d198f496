import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filtering.words import UnicodeWords

WORDS = UnicodeWords("en")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, e.g. now...", ["Don't", "stop", ",", "e", ".", "g", ".", "now", "..."]),
        ("l’été à 3,5 %", ["l’été", "à", "3", ",", "5", "%"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我爱BERT和ラーメン", ["我", "爱", "BERT", "和", "ラ", "ー", "メ", "ン"]),
        ("ดีมาก", list("ดีมาก")),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert WORDS.word_tokenize(text) == words


@given(st.text())
def test_all_that_is_not_white_space_belongs_to_one_word(text: str) -> None:
    assert "".join(WORDS.word_tokenize(text)) == regex.sub(r"\s", "", text)


def test_spans_are_those_of_the_sentences() -> None:
    text = "He came. He came. Did Mr. Brown see him?\n\nNo"
    assert [text[start:stop] for start, stop in WORDS.span_tokenize(text)] == WORDS.sent_tokenize(text)
    assert len(WORDS.sent_tokenize(text)) == 4
