"""Tags of all schemes become IOB2 that means the same; what a scheme does not allow is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB1, IOBES, Entities

from finetune.tag_schemes import InvalidTagsError, join_words, to_characters, to_iob2
from finetune.task_config import TagScheme

SPANS = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC"]), st.integers(1, 3)), max_size=6)


def write(spans: list[tuple[str, int]], scheme: TagScheme) -> list[str]:
    """Return the tags of consecutive spans, each a type ("" is outside) and a number of words."""
    tags: list[str] = []
    for number, (kind, length) in enumerate(spans):
        if not kind:
            tags += ["O"] * length
        elif scheme is TagScheme.bioes:
            middle = [f"B-{kind}", *[f"I-{kind}"] * (length - 2), f"E-{kind}"]
            tags += middle if length > 1 else [f"S-{kind}"]
        else:
            begins = scheme is TagScheme.iob2 or (number > 0 and spans[number - 1][0] == kind)
            tags += [f"{'B' if begins else 'I'}-{kind}", *[f"I-{kind}"] * (length - 1)]
    return tags


@given(spans=SPANS, scheme=st.sampled_from(list(TagScheme)))
def test_every_scheme_becomes_the_iob2_of_the_same_entities(spans, scheme):
    assert to_iob2(write(spans, scheme), scheme) == write(spans, TagScheme.iob2)


@given(spans=SPANS)
def test_seqeval_finds_the_same_entities_in_each_scheme(spans):
    for scheme, theirs in ((TagScheme.iob1, IOB1), (TagScheme.bioes, IOBES)):
        tags = write(spans, scheme)
        found = {(e.tag, e.start, e.end - 1) for e in Entities([tags], theirs).entities[0]}
        assert found == set(get_entities(to_iob2(tags, scheme)))


@pytest.mark.parametrize(
    ("tags", "scheme", "position", "message"),
    [
        (["O", "I-LOC"], TagScheme.iob2, 1, "tag 'I-LOC' after 'O' is not valid iob2.*begins with B-.*iob1"),
        (["B-PER", "I-LOC"], TagScheme.iob2, 1, "tag 'I-LOC' after 'B-PER' is not valid iob2"),
        (["O", "B-LOC"], TagScheme.iob1, 1, "tag 'B-LOC' after 'O' is not valid iob1.*task.scheme=iob2"),
        (["I-PER", "B-LOC"], TagScheme.iob1, 1, "is not valid iob1"),
        (["B-LOC", "O"], TagScheme.bioes, 1, "tag 'O' after 'B-LOC' is not valid bioes.*go on with I- or end with E-"),
        (["O", "E-LOC"], TagScheme.bioes, 1, "is not valid bioes: an entity begins with B-, or is S- alone"),
        (["B-LOC", "E-PER"], TagScheme.bioes, 1, "is not valid bioes"),
        (["S-LOC", "I-LOC"], TagScheme.bioes, 1, "is not valid bioes"),
        (["B-LOC", "I-LOC"], TagScheme.bioes, 1, "at the end of a sentence is not valid bioes.*must end with E-"),
        (["O", "LOC"], TagScheme.iob2, 1, "tag 'LOC' is not valid iob2, which has O, B-TYPE, I-TYPE; mend it, or set"),
        (["S-LOC"], TagScheme.iob2, 0, "tag 'S-LOC' is not valid iob2"),
        (["B-"], TagScheme.iob2, 0, "tag 'B-' is not valid"),
    ],
)
def test_a_tag_that_the_scheme_does_not_allow_is_named_with_its_place(tags, scheme, position, message):
    with pytest.raises(InvalidTagsError, match=message) as caught:
        to_iob2(tags, scheme)
    assert caught.value.position == position


def test_types_may_have_hyphens():
    assert to_iob2(["B-creative-work", "I-creative-work"], TagScheme.iob2) == ["B-creative-work", "I-creative-work"]


def test_chinese_words_become_characters_and_other_runs_stay_whole():
    words, tags = to_characters(["我", "爱", "北京大学", "NBA", "2号"], ["O", "O", "B-ORG", "B-ORG", "I-ORG"])
    assert words == ["我", "爱", "北", "京", "大", "学", "NBA", "2", "号"]
    assert tags == ["O", "O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "B-ORG", "I-ORG", "I-ORG"]
    assert to_characters(["北京"], None) == (["北", "京"], None)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["Oslo", "harbour"], "Oslo harbour"),
        (["北", "京", "大", "学"], "北京大学"),
        (["2", "号", "楼"], "2号楼"),
        (["《", "红", "楼", "梦", "》", "、"], "《红楼梦》、"),
        (["東京", "タワー", "ビル"], "東京タワービル"),
        (["Bank", "of", "中国"], "Bank of中国"),
        (["서울", "대학교"], "서울 대학교"),
    ],
)
def test_words_are_joined_as_they_are_written(words, text):
    assert join_words(words) == text


@given(st.text("北京Ab1 。", min_size=1).filter(str.strip))
def test_a_word_that_became_characters_is_whole_again(word):
    assert join_words(to_characters([word], None)[0]) == word
