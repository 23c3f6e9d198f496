"""SQuAD files give questions whose answers stand at their offsets; every mistake names file and question."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.reading.faults import Faults
from finetune.reading.squad import Question, read_squad
from tests.finetuning import question, write_squad

CONTEXT = "The ship left Paris, and Anna saw Paris again."
GOOD = question("q0", "Who?", "Anna", CONTEXT)


def read(path: Path, *, no_answer: bool = False, skip: bool = False, labelled: bool = True) -> list[Question]:
    return list(read_squad("train_file", path, Faults(skip=skip), no_answer=no_answer, labelled=labelled))


def test_questions_have_contexts_and_answers(tmp_path):
    path = write_squad(tmp_path / "a.json", [question("q1", "Who?", "Anna", CONTEXT)], CONTEXT)
    (found,) = read(path)
    assert (found.id, found.question, found.context) == ("q1", "Who?", CONTEXT)
    assert [(answer.text, answer.start) for answer in found.answers] == [("Anna", 25)]
    assert str(found.place) == f"{path}, question q1"


def test_questions_without_answers_are_for_squad_2(tmp_path):
    records = [question("q1", "Who?", "Anna", CONTEXT), question("q2", "Why?", None, CONTEXT)]
    path = write_squad(tmp_path / "a.json", records, CONTEXT)
    assert [len(found.answers) for found in read(path, no_answer=True)] == [1, 0]
    with pytest.raises(ValueError, match=r"a\.json, question q2: it has no answer; set task\.no_answer=true"):
        read(path)
    assert [found.answers for found in read(path, labelled=False)] == [[], []]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            question("q1", "Who?", "Anna", CONTEXT, 24),
            "not at answer_start=24.* ' Ann'; answer_start=25 would be right",
        ),
        (question("q1", "Where?", "Paris", CONTEXT, 30), "has 'saw P'; answer_start=34 would be right"),
        (
            question("q1", "Who?", "Bruno", CONTEXT, 0),
            "'Bruno' is not at answer_start=0.*stands nowhere in the con",
        ),
        (question("q1", "Who?", "Anna", CONTEXT, -1), "answer_start=-1"),
        (question("q1", "Who?", " ", CONTEXT, 3), "an answer is empty"),
        (question("q1", " ", "Anna", CONTEXT), "the question is empty; remove or mend it"),
    ],
)
def test_a_fault_names_the_question_and_can_be_skipped(tmp_path, record, message):
    path = write_squad(tmp_path / "a.json", [GOOD, record], CONTEXT)
    with pytest.raises(ValueError, match=rf"a\.json, question q1: .*{message}"):
        read(path)
    assert [found.id for found in read(path, skip=True)] == ["q0"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("x", r"question 2 of the file: not a question \(TypeError: 'x' where dict is due\)"),
        ({"question": "Who?"}, r"question 2 of the file: not a question \(KeyError: 'id'\)"),
        (GOOD | {"id": "q1", "question": 3}, r"question q1: not a question \(TypeError: 3 where str is due\)"),
        (
            GOOD | {"id": "q1", "answers": "Anna"},
            r"question q1: not a question \(TypeError: 'Anna' where list is due\)",
        ),
        (GOOD | {"id": "q1", "answers": [{}]}, r"question q1: not a question \(KeyError: 'text'\)"),
        (question("q1", "Who?", "Anna", CONTEXT, "25"), r"question q1: not a question \(TypeError: '25' where int is"),
        (question("q1", "Who?", "h", CONTEXT, True), r"question q1: not a question \(TypeError: True where int is due"),
    ],
)
def test_a_record_that_is_no_question_can_be_skipped_too(tmp_path, record, message):
    path = write_squad(tmp_path / "a.json", [GOOD, record], CONTEXT)
    with pytest.raises(ValueError, match=rf"a\.json, {message}.*on_error=skip"):
        read(path)
    assert [found.id for found in read(path, skip=True)] == ["q0"]


def test_a_fault_names_the_line_of_the_id_where_there_are_several(tmp_path):
    records = [GOOD, GOOD | {"id": "q\n1"}, GOOD | {"id": 7}, GOOD | {"answers": []}]
    path = write_squad(tmp_path / "a.json", records, CONTEXT)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1), encoding="utf-8")
    text = path.read_text().splitlines()
    places = [str(found.place) for found in read(path, skip=True)]
    wanted = [(number, line) for number, line in enumerate(text, start=1) if '"id"' in line]
    assert places == [f"{path}, line {wanted[0][0]}, question q0", f"{path}, line {wanted[1][0]}, question q\n1",
                      f"{path}, line {wanted[2][0]}, question 7"]  # fmt: skip
    with pytest.raises(ValueError, match=rf"a\.json, line {wanted[3][0]}, question q0: its id occurs twice"):
        read(path)


def test_a_file_of_several_lines_that_is_not_json_names_its_line(tmp_path):
    (tmp_path / "a.json").write_text('{"data": [\n{"id": "\\x"}')
    with pytest.raises(ValueError, match=r"a\.json, line 2: not JSON \(Invalid \\escape\)"):
        read(tmp_path / "a.json")


def test_an_id_may_occur_once(tmp_path):
    records = [question("q1", "Who?", "Anna", CONTEXT)] * 2
    with pytest.raises(ValueError, match="question q1: its id occurs twice"):
        read(write_squad(tmp_path / "a.json", records, CONTEXT))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{oops", r"a\.json, line 1: not JSON .*train_file must be SQuAD JSON"),
        ({"data": []}, "train_file=.* has no questions"),
        ({"rows": []}, r"a\.json: not SQuAD JSON \(KeyError: 'data'\)"),
        (
            {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [GOOD]}, {"context": "c"}]}]},
            r"a\.json, after question 1: not SQuAD JSON \(KeyError: 'qas'\)",
        ),
        ([1], r"not SQuAD JSON \(TypeError"),
        (
            {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1}]}]}]},
            r"question 1: not a question \(KeyError: 'question'\)",
        ),
        (
            {"data": [{"paragraphs": [{"context": 3, "qas": [{"id": 1, "question": "q"}]}]}]},
            "TypeError: 3 where str is due",
        ),
    ],
)
def test_what_is_not_squad_is_named(tmp_path: Path, content: Any, message: str):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read(path)


@pytest.mark.parametrize("language", ["en", "zh", "de"])
def test_real_answers_stand_at_their_offsets(shared_data, language):
    assert len(read(shared_data / "downstream" / "xquad" / f"xquad.{language}.json")) == 1190
