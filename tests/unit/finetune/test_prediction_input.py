import json
from pathlib import Path
from typing import Any

import pytest

from finetune.prediction_input import InputFormat, find_source, read_examples
from finetune.reading.faults import Faults
from finetune.reading.text_file import STANDARD_INPUT
from finetune.tasks.build import build_task
from finetune.tasks.task import Task
from tests.finetuning import entity_sentences, question, task_config, write_conll, write_csv, write_squad

CONTEXT = "anna saw it ."
LABELS = {"classification": ["a", "b"], "tagging": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "question_answering": []}


def build(name: str, *overrides: str) -> Task:
    return build_task(task_config(name, *overrides), LABELS[name])


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def examples(task: Task, path: Path, wanted: InputFormat | None = None, labelled: bool | None = None) -> list[Any]:
    return list(read_examples(task, find_source(task, str(path), wanted, labelled), Faults(skip=False)))


@pytest.mark.parametrize(("header", "labelled"), [("text,label", True), ("text,note", False)])
def test_a_table_is_labelled_when_it_has_the_column(tmp_path, header, labelled):
    path = write_csv(tmp_path / "a.csv", [("x", "a"), ("y", "b")], header=header)
    source = find_source(build("classification"), str(path), None, None)
    assert (source.format, source.labelled) == (InputFormat.csv, labelled)
    found = examples(build("classification"), path)
    assert [(one.text, one.label) for one in found] == [
        ("x", "a" if labelled else None),
        ("y", "b" if labelled else None),
    ]
    assert [one.label for one in examples(build("classification"), path, labelled=False)] == [None, None]


def test_json_lines_and_pairs_are_read_by_their_columns(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {"text": "x", "other": "y"}, {"text": "z", "other": "w"})
    task = build("classification", "task.pair_column=other")
    assert [(one.text, one.pair, one.label) for one in examples(task, path)] == [("x", "y", None), ("z", "w", None)]
    with pytest.raises(ValueError, match="format=text is not valid: this model takes pairs of texts"):
        find_source(task, "-", None, None)


def test_the_format_can_be_said_where_the_suffix_says_nothing(tmp_path):
    path = write_csv(tmp_path / "a.data", [("x", "a")])
    assert examples(build("classification"), path, InputFormat.csv)[0].text == "x"
    with pytest.raises(ValueError, match=r"a\.data has none of the suffixes .*; rename it, or say format="):
        examples(build("classification"), path)


def test_columns_are_labelled_when_there_are_two(tmp_path):
    sentences = entity_sentences(2)
    labelled = examples(build("tagging"), write_conll(tmp_path / "a.conll", sentences))
    assert [one.tags for one in labelled] == [[tag for _, tag in sentence] for sentence in sentences]
    words = tmp_path / "b.conll"
    words.write_text("anna\nsaw\n\noslo\n", encoding="utf-8")
    assert [(one.words, one.tags) for one in examples(build("tagging"), words)] == [
        (["anna", "saw"], None),
        (["oslo"], None),
    ]


@pytest.mark.parametrize(
    ("row", "tags"), [({"tokens": ["anna"], "tags": ["B-PER"]}, ["B-PER"]), ({"tokens": ["anna"]}, None)]
)
def test_lists_are_labelled_when_they_have_tags(tmp_path, row, tags):
    (found,) = examples(build("tagging"), write_lines(tmp_path / "a.jsonl", row))
    assert (found.words, found.tags) == (["anna"], tags)


@pytest.mark.parametrize(
    ("task", "row", "labels"),
    [
        ("classification", {"text": "x"}, {"label": "a"}),
        ("tagging", {"tokens": ["anna"]}, {"tags": ["B-PER"]}),
        (
            "question_answering",
            {"question": "who ?", "context": CONTEXT},
            {"answers": [{"text": "anna", "answer_start": 0}]},
        ),
    ],
)
def test_rows_of_which_only_some_have_labels_are_a_mistake_that_names_the_line(tmp_path, task, row, labels):
    late = write_lines(tmp_path / "a.jsonl", row, row, row | labels, row | labels)
    with pytest.raises(
        ValueError, match=r"a\.jsonl, line 3: a row with .*a\.jsonl, line 1 has not; say labelled=false"
    ):
        find_source(build(task), str(late), None, None)
    assert len(examples(build(task), late, labelled=False)) == 4
    early = write_lines(tmp_path / "b.jsonl", row | labels, row)
    with pytest.raises(ValueError, match=rf"b\.jsonl, line 2: no field '{next(iter(labels))}'"):
        examples(build(task), early)
    faults = Faults(skip=True)
    source = find_source(build(task), str(late), None, True)
    assert len(list(read_examples(build(task), source, faults))) == 2
    assert faults.counts[str(late)] == 2


def test_a_text_is_cut_into_words_or_characters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("anna saw 北京.\n", encoding="utf-8")
    (found,) = examples(build("tagging"), path, InputFormat.text)
    assert found.words == ["anna", "saw", "北京", "."]
    (found,) = examples(build("tagging", "task.by_character=true"), path, InputFormat.text)
    assert found.words == ["anna", "saw", "北", "京", "."]
    assert found.words_text(2, 3) == "北京"


@pytest.mark.parametrize(("answer", "labelled"), [("anna", True), (None, False)])
def test_squad_is_labelled_when_some_question_has_answers(tmp_path, answer, labelled):
    path = write_squad(tmp_path / "a.json", [question("q", "who saw it ?", answer, CONTEXT)], CONTEXT)
    source = find_source(build("question_answering"), str(path), None, None)
    assert (source.format, source.labelled) == (InputFormat.squad, labelled)
    (found,) = examples(build("question_answering"), path)
    assert [one.text for one in found.answers] == ([answer] if answer else [])


def test_questions_may_be_lines(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {"question": "who ?", "context": CONTEXT})
    (found,) = examples(build("question_answering"), path)
    assert (found.question, found.context) == ("who ?", CONTEXT)


@pytest.mark.parametrize(
    ("task", "how"),
    [
        ("classification", InputFormat.text),
        ("tagging", InputFormat.text),
        ("question_answering", InputFormat.jsonl),
    ],
)
def test_standard_input_is_lines_without_labels(task, how):
    source = find_source(build(task), "-", None, None)
    assert (source.path, source.format, source.labelled) == (STANDARD_INPUT, how, False)
    assert find_source(build(task), "-", InputFormat.jsonl, True).labelled
