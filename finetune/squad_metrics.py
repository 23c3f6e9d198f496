"""Exact match and F1 of answers, as the official scripts of SQuAD 1.1 and 2.0 define them, and MLQA's for Chinese.

SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, and 2018, arXiv:1806.03822): evaluate-v1.1.py and evaluate-v2.0.py give
the same numbers for answers with at least one word; where nothing is left of a gold answer, this does as 2.0 does.
MLQA (Lewis et al. 2020, arXiv:1910.07475): mlqa_evaluation_v1.py with language zh.
"""

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from finetune.task_config import Scoring

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MIXED = re.compile(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+")


def normalize_answer(text: str, scoring: Scoring) -> str:
    """Return an answer in lower case without punctuation, its words joined by single blanks.

    `squad` drops ASCII punctuation and the articles a, an, the; words stand between blanks. `chinese` drops all
    Unicode punctuation; each Chinese character is a word, and so is each run of others between blanks.
    """
    lowered = text.lower()
    if scoring is Scoring.chinese:
        return " ".join(_MIXED.findall(lowered.translate(_unicode_punctuation())))
    without = lowered.translate(dict.fromkeys(map(ord, string.punctuation)))
    return " ".join(_ARTICLES.sub(" ", without).split())


@cache
def _unicode_punctuation() -> dict[int, None]:
    points = (point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)).startswith("P"))
    return dict.fromkeys([*points, *map(ord, string.punctuation)])


def exact_match(prediction: str, gold: str, scoring: Scoring) -> float:
    """Return 1.0 when both are the same after normalisation, else 0.0."""
    return float(normalize_answer(prediction, scoring) == normalize_answer(gold, scoring))


def f1(prediction: str, gold: str, scoring: Scoring) -> float:
    """Return the harmonic mean of precision and recall of words; 1.0 when neither has one, 0.0 when one has none."""
    predicted, wanted = normalize_answer(prediction, scoring).split(), normalize_answer(gold, scoring).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    same = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * same / (len(predicted) + len(wanted))


def squad_scores(
    predictions: Mapping[str, str], gold: Mapping[str, Sequence[str]], scoring: Scoring
) -> dict[str, float]:
    """Return `exact_match` and `f1` in percent: means over questions of the best over each one's gold answers.

    Both arguments go by question id; no gold answer, or none with a word, means that "" is right. A question without
    a prediction counts 0. When some questions have answers and some have none, `has_answer_…` and `no_answer_…` are
    the same means over either.
    """
    exact: dict[str, float] = {}
    overlap: dict[str, float] = {}
    answerable: set[str] = set()
    for name, answers in gold.items():
        real = [answer for answer in answers if normalize_answer(answer, scoring)]
        answerable |= {name} if real else set()
        prediction = predictions.get(name)
        candidates = real or [""]
        exact[name] = (
            max(exact_match(prediction, one, scoring) for one in candidates) if prediction is not None else 0.0
        )
        overlap[name] = max(f1(prediction, one, scoring) for one in candidates) if prediction is not None else 0.0
    scores = {"exact_match": _percent(exact, gold), "f1": _percent(overlap, gold)}
    unanswerable = gold.keys() - answerable
    if answerable and unanswerable:
        for prefix, names in (("has_answer", answerable), ("no_answer", unanswerable)):
            scores[f"{prefix}_exact_match"] = _percent(exact, names)
            scores[f"{prefix}_f1"] = _percent(overlap, names)
    return scores


def _percent(values: Mapping[str, float], names: Mapping[str, object] | set[str]) -> float:
    return 100 * sum(values[name] for name in names) / max(len(names), 1)
