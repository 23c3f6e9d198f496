import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.documents import clean_text
from data_prep.sentences import as_in_running_text, check_language, split_sentences


@given(
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from(list(".!?。！ \n\"'(A1")))),
    st.sampled_from(["en", "zh"]),
)
@settings(max_examples=300)
def test_sentences_hold_all_of_the_text_in_order(text: str, language: str) -> None:
    cleaned = clean_text(text)
    sentences = split_sentences(cleaned, language)
    assert all(sentence.strip() for sentence in sentences)
    assert "".join("".join(sentences).split()) == "".join(cleaned.split())


@given(
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from(list(".!?。！ \n\"'(A1")))),
    st.sampled_from(["en", "zh"]),
)
@settings(max_examples=300)
def test_sentences_of_running_text_are_the_text_with_single_spaces(text: str, language: str) -> None:
    cleaned = clean_text(text)
    sentences = split_sentences(cleaned, language)
    spaced = as_in_running_text(cleaned, sentences)
    assert "".join(spaced) == " ".join(cleaned.split())
    assert [sentence.strip() for sentence in spaced] == [" ".join(sentence.split()) for sentence in sentences]


def test_english_abbreviations_and_wrapped_lines_do_not_end_a_sentence() -> None:
    text = "Mr. Smith paid $3.50 to\nDr. Jones. He left.\n\nA heading\n\nNew paragraph."
    assert split_sentences(text, "en") == [
        "Mr. Smith paid $3.50 to\nDr. Jones.",
        "He left.",
        "A heading",
        "New paragraph.",
    ]


def test_chinese_sentences_end_at_their_own_marks() -> None:
    assert split_sentences("你好。你是谁？我走了！", "zh") == ["你好。", "你是谁？", "我走了！"]


@pytest.mark.parametrize("language", ["en", "zh", "pt-br", "kk"])
def test_known_languages_pass(language: str) -> None:
    check_language(language)


@pytest.mark.parametrize("language", ["", "english", "xx", "EN"])
def test_an_unknown_language_is_refused_with_examples(language: str) -> None:
    with pytest.raises(ValueError, match=r"sentences.language.*such as en, de"):
        check_language(language)


def test_the_language_of_a_source_is_named_as_its_own() -> None:
    with pytest.raises(ValueError, match=r"^corpus\.sources\.web\.language='xx' is not"):
        check_language("xx", "corpus.sources.web.language")
