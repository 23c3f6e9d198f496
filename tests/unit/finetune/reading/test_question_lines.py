import json

import pytest

from finetune.reading.faults import Faults
from finetune.reading.question_lines import read_question_lines
from finetune.reading.squad import Answer

CONTEXT = "the ship left oslo , and anna saw it ."
ROW = {"question": "who saw it ?", "context": CONTEXT}


def read(tmp_path, *rows, labelled=False, no_answer=False, faults=None):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    heard = faults or Faults(skip=False)
    return list(read_question_lines("input", path, heard, no_answer=no_answer, labelled=labelled))


def test_a_question_has_its_id_or_its_line(tmp_path):
    first, second = read(tmp_path, ROW | {"id": 7}, ROW)
    assert (first.id, first.question, first.context, first.answers) == ("7", "who saw it ?", CONTEXT, [])
    assert second.id == "line 2"
    assert str(second.place).endswith("a.jsonl, line 2")


@pytest.mark.parametrize(
    "answers",
    [[{"text": "anna", "answer_start": 25}], {"text": ["anna"], "answer_start": [25]}],
    ids=["SQuAD", "Hugging Face"],
)
def test_answers_come_in_both_forms(tmp_path, answers):
    (found,) = read(tmp_path, ROW | {"answers": answers}, labelled=True)
    assert found.answers == [Answer("anna", 25)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"answers": [{"text": "anna", "answer_start": 3}]}, "answer_start=25 would be right"),
        (ROW | {"answers": []}, "it has no answer; set task.no_answer"),
        (ROW | {"answers": ["anna"]}, r"line 1: not a question \(TypeError"),
        (ROW | {"answers": [{"text": "anna"}]}, r"line 1: not a question \(KeyError: 'answer_start'\)"),
        (ROW | {"answers": [{"text": "h", "answer_start": True}]}, "TypeError: True where int is due"),
        (ROW | {"answers": {"text": "a", "answer_start": [25]}}, "TypeError: 'a' where list is due"),
        (ROW | {"answers": [], "context": " "}, "the context is empty"),
        ({"question": "who ?", "answers": []}, "context=context is not a column of .*; it has 'answers', 'question'"),
    ],
)
def test_what_is_no_question_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, row, labelled=True)


def test_questions_that_cannot_be_used_are_left_out_if_asked_for(tmp_path):
    faults = Faults(skip=True)
    assert len(read(tmp_path, ROW, ROW | {"question": ""}, ROW, faults=faults)) == 2
    assert "line 2: the question is empty" in faults.summary()


def test_a_question_without_answer_is_one_where_there_may_be_none(tmp_path):
    (found,) = read(tmp_path, ROW | {"answers": []}, labelled=True, no_answer=True)
    assert found.answers == []
