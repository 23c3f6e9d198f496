"""Windows hold the whole context, and answers come back from their labels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.answers import decode_question
from finetune.reading.faults import Place
from finetune.reading.squad import Answer, Question
from finetune.windows import Window, cut_question, label_window
from tests.finetuning import BAD, GOOD, NAMES, tokenizer

TOKENIZER = tokenizer()
WORDS = st.lists(st.sampled_from([*GOOD, *BAD, *NAMES, "harbour", "."]), min_size=1, max_size=60)


def asked(context: str, *answers: Answer) -> Question:
    return Question(Place("f", "question q"), "q", "who saw it ?", context, list(answers))


def cut(question: Question, max_length: int = 24, overlap: int = 4) -> list[tuple[dict[str, list[int]], Window]]:
    return list(cut_question(0, question, TOKENIZER, max_length=max_length, overlap=overlap))


def logits(windows: list[Window], at: list[tuple[int, int]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return start and end logits that are high at one pair of tokens of each window, padded beyond its tokens."""
    starts, ends = [], []
    for window, (first, last) in zip(windows, at, strict=True):
        start, end = (np.full(len(window.offsets) + 3, -5, dtype=np.float32) for _ in range(2))
        start[len(window.offsets) :] = end[len(window.offsets) :] = 9  # padding, never to be chosen
        start[first] += 10
        end[last] += 10
        starts.append(start)
        ends.append(end)
    return starts, ends


@given(words=WORDS, data=st.data())
def test_every_answer_is_found_again_from_its_labels_and_lies_in_some_window(words, data):
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 1, len(words) - 1)))
    start = len(" ".join([*words[:first], ""]))
    answer = Answer(" ".join(words[first : last + 1]), start)
    pairs = cut(asked(context, answer))
    windows = [window for _, window in pairs]
    assert all(len(feature["input_ids"]) <= 24 for feature, _ in pairs)
    at = [label_window(window, [answer]) for window in windows]
    holding = [pair for pair, window in zip(at, windows, strict=True) if pair[0] != window.cls_position]
    assert holding
    decoded = decode_question(windows, *logits(windows, at), n_best=5, max_answer_tokens=10, no_answer=True)
    best = decoded.candidates[0]
    assert (best.start, best.end) == (start, start + len(answer.text))
    assert sum(decoded.probabilities) == pytest.approx(1)


@given(words=WORDS)
def test_windows_overlap_and_leave_no_token_of_the_context_out(words):
    context = " ".join(words)
    spans = [[span for span in window.offsets if span is not None] for _, window in cut(asked(context))]
    whole = [span for span in TOKENIZER(context, return_offsets_mapping=True)["offset_mapping"] if span[1]]
    assert sorted({span for window in spans for span in window}) == whole
    for before, after in pairwise(spans):
        assert len(set(before) & set(after)) >= 4


def test_an_answer_that_is_not_wholly_in_a_window_is_cls_there():
    window = Window(0, [None, None, (10, 14), (15, 19), None], 0)
    assert label_window(window, [Answer("xxxx", 10)]) == (2, 2)
    for answers in ([], [Answer("xxxx", 5)], [Answer("xxxxx", 15)], [Answer("x" * 20, 8)]):
        assert label_window(window, answers) == (0, 0)


def test_an_answer_inside_a_token_takes_the_whole_token():
    window = Window(0, [None, (0, 4), (5, 12), None], 0)
    assert label_window(window, [Answer("x", 6)]) == (2, 2)


def test_a_question_that_leaves_no_room_for_the_context_is_named():
    with pytest.raises(ValueError, match=r"the question has 4 tokens, which leaves room for 5 .*window_overlap=5"):
        cut(asked("anna"), max_length=12, overlap=5)
    assert cut(asked("anna"), max_length=12, overlap=4)


def decode(start: list[float], end: list[float], *, longest: int = 3) -> list[tuple[int, int]]:
    """Return the ranked answers of `[CLS] q [SEP] aa bb cc dd [SEP]`, 2 characters each and a blank between."""
    offsets = [None, None, None, (0, 2), (3, 5), (6, 8), (9, 11), None]
    arrays = [[np.array(values, dtype=np.float32)] for values in (start, end)]
    found = decode_question([Window(0, offsets, 0)], *arrays, n_best=4, max_answer_tokens=longest, no_answer=True)
    return [(one.start, one.end) for one in found.candidates]


def test_answers_begin_before_they_end_stay_in_the_context_and_are_short_enough():
    ranked = decode([9, 9, 9, 0, 3, 0, 0, 9], [9, 9, 9, 2, 0, 1, 0, 9])
    assert ranked[0] == (3, 8)
    assert (3, 2) not in ranked
    assert (0, 11) not in ranked  # four tokens
    assert (0, 11) in decode([0] * 8, [0] * 8, longest=4)
    assert all(start < end for start, end in ranked)


def test_the_ranking_is_that_of_every_pair():
    generator = np.random.default_rng(0)
    start, end = (generator.normal(size=8).round(3).tolist() for _ in range(2))
    pairs = {(3 * (i - 3), 3 * (j - 3) + 2): start[i] + end[j] for i in range(3, 7) for j in range(i, 7) if j - i < 3}
    assert decode(start, end) == sorted(pairs, key=lambda pair: -pairs[pair])[:4]


@pytest.mark.parametrize("span", [(0, 0), None])
def test_a_window_without_a_character_of_the_context_has_no_answer(span):
    logits = [np.zeros(3, dtype=np.float32)]
    found = decode_question(
        [Window(0, [None, span, None], 0)], logits, logits, n_best=5, max_answer_tokens=5, no_answer=True
    )
    assert (found.candidates, found.probabilities, found.no_answer_margin) == ([], [1.0], np.inf)


def test_no_answer_is_the_least_of_cls_over_windows():
    offsets = [None, (0, 2), None]
    windows = [Window(0, offsets, 0), Window(0, offsets, 0)]
    starts = [np.array([5, 1, 0], dtype=np.float32), np.array([2, 3, 0], dtype=np.float32)]
    ends = [np.array([5, 1, 0], dtype=np.float32), np.array([2, 3, 0], dtype=np.float32)]
    found = decode_question(windows, starts, ends, n_best=5, max_answer_tokens=5, no_answer=True)
    assert [(one.start, one.end, one.score) for one in found.candidates] == [(0, 2, 6.0)]
    assert found.no_answer_margin == 4.0 - 6.0
    assert found.probabilities == pytest.approx((np.exp([6, 4]) / np.exp([6, 4]).sum()).tolist())
