"""Exact match and F1, hand-computed, and as the official scripts have them."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.squad_metrics import exact_match, f1, normalize_answer, squad_scores
from finetune.task_config import Scoring

SQUAD, CHINESE = Scoring.squad, Scoring.chinese


@pytest.mark.parametrize(
    ("text", "scoring", "normal"),
    [
        ("The  Cat, and a dog!", SQUAD, "cat and dog"),
        ("an-other", SQUAD, "another"),
        ("Theatre", SQUAD, "theatre"),
        ("the", SQUAD, ""),
        ("北京。", SQUAD, "北京。"),  # the official scripts know ASCII punctuation only
        ("北京大学, 1898 年。", CHINESE, "北 京 大 学 1898 年"),
        ("The NBA赛季", CHINESE, "the nba 赛 季"),
    ],
)
def test_answers_are_normalised(text, scoring, normal):
    assert normalize_answer(text, scoring) == normal


def test_hand_computed_scores():
    assert exact_match("the Eiffel Tower", "Eiffel tower.", SQUAD) == 1.0
    assert f1("in Paris, France", "Paris", SQUAD) == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert f1("Paris Paris", "Paris", SQUAD) == pytest.approx(2 / 3)
    assert f1("Rome", "Paris", SQUAD) == 0.0
    assert f1("", "", SQUAD) == f1("the", "", SQUAD) == 1.0
    assert f1("", "Paris", SQUAD) == 0.0
    assert f1("北京大学", "北京", SQUAD) == 0.0
    assert f1("北京大学", "北京", CHINESE) == pytest.approx(2 / 3)


def test_the_best_of_several_gold_answers_counts_and_a_missing_prediction_is_wrong():
    gold = {"1": ["Paris", "Paris France"], "2": ["Oslo"], "3": ["Rome"]}
    predictions = {"1": "France", "2": "Oslo"}
    scores = squad_scores(predictions, gold, SQUAD)
    assert scores == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 * (2 / 3 + 1) / 3)}


def test_unanswerable_questions_want_the_empty_string_and_are_reported_apart():
    gold = {"1": ["Paris"], "2": [], "3": ["the"], "4": []}  # nothing is left of "the", as in the script of 2.0
    scores = squad_scores({"1": "Paris", "2": "", "3": "", "4": "Rome"}, gold, SQUAD)
    assert scores["exact_match"] == scores["f1"] == 75.0
    assert (scores["has_answer_f1"], scores["no_answer_f1"]) == (100.0, pytest.approx(200 / 3))


def official_normalize(text: str) -> str:
    """As evaluate-v1.1.py and evaluate-v2.0.py put it."""
    without = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without).split())


def official_f1(prediction: str, gold: str) -> float:
    ours, theirs = official_normalize(prediction).split(), official_normalize(gold).split()
    same = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


WORDS = st.lists(st.sampled_from(["the", "a", "Cat", "cat!", "d.o.g", "—", "ÉCOLE", "tha\tt"]), max_size=5).map(
    " ".join
)


@given(prediction=WORDS, gold=WORDS)
def test_it_is_the_official_scores(prediction, gold):
    assert normalize_answer(prediction, SQUAD) == official_normalize(prediction)
    assert f1(prediction, gold, SQUAD) == pytest.approx(official_f1(prediction, gold))
