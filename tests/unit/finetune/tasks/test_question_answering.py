"""Question answering from files to answers: windows, scores, no answer, readable predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from finetune.reading.faults import Faults
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.task import Encoded, Logits
from tests.finetuning import question, task_config, tokenizer, write_squad

CONTEXT = "the ship left paris , and anna saw it in the harbour . " * 3 + "clara saw oslo ."


def encoded(tmp_path: Path, task: QuestionAnswering, max_length: int = 24) -> Encoded:
    records = [
        question("q1", "who saw it ?", "anna", CONTEXT),
        question("q2", "who saw oslo ?", "clara", CONTEXT),
        *([question("q3", "who left ?", None, CONTEXT)] if task.config.no_answer else []),
    ]
    path = write_squad(tmp_path / "a.json", records, CONTEXT)
    examples = task.read("eval_file", path, Faults(skip=False))
    return task.encode(examples, tokenizer(), max_length, Faults(skip=False))


def perfect(inputs: Encoded) -> Logits:
    """Return start and end logits that are high where the labels are."""
    longest = max(len(feature["input_ids"]) for feature in inputs.features)
    starts, ends = np.zeros((2, len(inputs.features), longest), dtype=np.float32)
    for row, feature in enumerate(inputs.features):
        start, end, _ = feature["labels"]
        starts[row, start] += 5
        ends[row, end] += 5
    return [starts, ends]


def build(*overrides: str) -> QuestionAnswering:
    return QuestionAnswering(task_config("question_answering", "task.window_overlap=6", *overrides))


def test_answers_come_back_from_the_window_that_holds_them(tmp_path):
    task = build()
    inputs = encoded(tmp_path, task)
    assert inputs.note == "2 of 2 questions take several windows of 24 tokens"
    assert max(len(feature["input_ids"]) for feature in inputs.features) == 24
    assert task.scores(perfect(inputs), inputs) == {"exact_match": 100.0, "f1": 100.0}
    first, second = task.decode(perfect(inputs), inputs)
    assert (first["predicted"], second["predicted"]) == ("anna", "clara")
    best = second["candidates"][0]
    assert CONTEXT[best["start"] : best["end"]] == best["text"] == "clara"
    assert best["probability"] > second["candidates"][1]["probability"]


def test_windows_without_a_candidate_give_no_answer_and_valid_json(tmp_path):
    task = build("task.n_best=1")
    inputs = encoded(tmp_path, task)
    starts, ends = (np.zeros_like(logits) for logits in perfect(inputs))
    for row, window in enumerate(inputs.spans):
        tokens = [token for token, _ in window.context_tokens]
        starts[row, tokens[-1]] = ends[row, tokens[0]] = 5  # the likeliest end stands before the likeliest start
    for record in task.decode([starts, ends], inputs):
        assert (record["predicted"], record["candidates"], record["no_answer_margin"]) == ("", [], None)
        json.dumps(record, allow_nan=False)


def test_no_answer_is_the_empty_string_and_the_threshold_moves_it(tmp_path):
    task = build("task.no_answer=true")
    inputs = encoded(tmp_path, task)
    assert task.scores(perfect(inputs), inputs)["no_answer_f1"] == 100.0
    assert [record["predicted"] for record in task.decode(perfect(inputs), inputs)] == ["anna", "clara", ""]
    never = build("task.no_answer=true", "task.no_answer_threshold=1e6")
    assert never.decode(perfect(inputs), inputs)[2]["predicted"] != ""


def test_a_question_too_long_for_its_windows_is_a_fault(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json, question q1: the question has 4 tokens, .*task\.window_overlap=6"):
        encoded(tmp_path, build(), max_length=13)


def test_chinese_answers_are_scored_by_character(tmp_path):
    context = "我爱北京天安门"
    path = write_squad(tmp_path / "a.json", [question("q", "爱看海 ?", "北京", context)], context)
    scores = []
    for scoring in ("squad", "chinese"):
        task = build(f"task.scoring={scoring}")
        examples = task.read("eval_file", path, Faults(skip=False))
        inputs = task.encode(examples, tokenizer(), 32, Faults(skip=False))
        outputs = perfect(inputs)
        end = inputs.features[0]["labels"][1]
        outputs[1][0, end] = 0
        outputs[1][0, end + 1] = 9  # one character too many
        scores.append(task.scores(outputs, inputs)["f1"])
    assert scores == [0.0, pytest.approx(80.0)]
