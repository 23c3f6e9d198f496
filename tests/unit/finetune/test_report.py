import json
from typing import Any

import numpy as np
import pytest

from finetune.report import Report, Tally, write_report
from finetune.tasks.build import build_task
from tests.finetuning import task_config


def report(task: str, labels: list[str], records: list[dict[str, Any]], *overrides: str) -> Report:
    tally = Tally(build_task(task_config(task, *overrides), labels))
    tally.add(records[:1])
    tally.add(records[1:])
    return tally.report()


def test_numbers_have_scores_only(tmp_path):
    records = [{"label": value, "predicted": value + noise} for value, noise in ((1.0, 0.1), (2.0, 0.0), (3.0, -0.2))]
    found = report("classification", [], records, "task.kind=regression")
    assert found.scores["mse"] == pytest.approx(0.05 / 3)
    assert (found.classes, found.confusion) == ([], None)
    write_report(found, tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.txt", "report.json"}


def test_the_positive_label_of_two_is_scored():
    records = [{"label": "no", "predicted": "yes"}, {"label": "yes", "predicted": "yes"}]
    found = report("classification", ["no", "yes"], records, "task.kind=binary")
    assert (found.scores["precision"], found.scores["recall"]) == (0.5, 1.0)
    found = report("classification", ["no", "yes"], records, "task.kind=binary", "task.positive_label=no")
    assert (found.scores["precision"], found.scores["recall"]) == (0.0, 0.0)


def test_several_labels_have_a_line_each():
    records = [{"label": ["a", "b"], "predicted": ["a"]}, {"label": [], "predicted": ["b"]}]
    found = report("classification", ["a", "b"], records, "task.kind=multi_label")
    assert found.scores["micro_f1"] == pytest.approx(0.5)
    assert found.confusion is not None
    assert found.confusion.counts == [[1, 0, 0], [0, 1, 1]]
    assert f"\n{'a':5}{1:11.4f}{1:11.4f}{1:11.4f}{1:11}" in found.text()


def test_answers_have_classes_where_there_may_be_none():
    records = [
        {"answers": ["anna"], "predicted": "anna"},
        {"answers": [], "predicted": ""},
        {"answers": [], "predicted": "oslo"},
    ]
    found = report("question_answering", [], records, "task.no_answer=true")
    assert found.scores["exact_match"] == pytest.approx(200 / 3)
    assert found.confusion is not None
    assert found.confusion.counts == [[1, 0], [1, 1]]
    plain = report("question_answering", [], records[:1])
    assert (plain.scores["f1"], plain.classes, plain.confusion) == (100.0, [], None)


def test_a_report_is_json_of_plain_numbers(tmp_path):
    records = [{"tags": ["B-LOC", "O"], "predicted": ["B-LOC", "O"]}]
    found = report("tagging", ["O", "B-LOC", "I-LOC"], records)
    write_report(found, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["scores"]["f1"] == 1.0
    assert content["classes"] == [{"label": "LOC", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}]
    assert np.array(content["confusion"]["counts"]).tolist() == [[1, 0], [0, 1]]
