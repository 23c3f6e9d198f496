"""Rows become labelled texts; what is no text or no label is a fault with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.reading.faults import Faults
from finetune.reading.labelled_texts import LabelledText, read_labelled_texts
from tests.finetuning import task_config


def read(path: Path, *overrides: str, labelled: bool = True) -> list[LabelledText]:
    config = task_config("classification", *overrides)
    return list(read_labelled_texts("train_file", path, config, Faults(skip=False), labelled=labelled))


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_texts_pairs_and_labels(tmp_path):
    path = write(tmp_path / "a.jsonl", {"q": "x", "d": "y", "rel": 3, "text": "t"})
    keys = ["task.text_column=q", "task.pair_column=d", "task.label_column=rel"]
    (example,) = read(path, *keys)
    assert (example.text, example.pair, example.label) == ("x", "y", "3")
    assert read(path, *keys, "task.kind=regression")[0].label == 3.0
    assert read(path, labelled=False)[0].label is None


@pytest.mark.parametrize(("cell", "labels"), [("b|a|b", ["a", "b"]), ("", []), (["b"], ["b"]), ([], [])])
def test_several_labels_are_a_list_or_one_string(tmp_path, cell, labels):
    path = write(tmp_path / "a.jsonl", {"text": "t", "label": cell})
    assert read(path, "task.kind=multi_label")[0].label == labels


@pytest.mark.parametrize(
    ("row", "overrides", "message"),
    [
        ({"text": " ", "label": "x"}, [], r"line 1: the text in column 'text' is empty; fill it or remove the row"),
        ({"text": 3, "label": "x"}, [], r"column 'text' holds 3, which is no text"),
        ({"text": "t", "label": ""}, [], r"column 'label' holds '', which is no label"),
        ({"text": "t", "label": None}, [], r"column 'label' holds None, which is no label"),
        ({"text": "t", "label": ["x"]}, [], r"column 'label' holds \['x'\], which is no label"),
        (
            {"text": "t", "label": "high"},
            ["task.kind=regression"],
            r"holds 'high', which is no number, and task",
        ),
        ({"text": "t", "label": "nan"}, ["task.kind=regression"], r"which is no number"),
        ({"text": "t", "label": -100}, ["task.kind=regression"], r"holds '-100', and the Trainer .* add a constant"),
        ({"text": "t", "label": "-100.000001"}, ["task.kind=regression"], r"does not count a label of -100"),
        ({"text": "t", "label": 3}, ["task.kind=multi_label"], r"holds 3; several labels are a list or a string"),
        ({"text": "t", "label": "a||b"}, ["task.kind=multi_label"], r"holds '', which is no label"),
        ({"text": "t", "p": "", "label": 3}, ["task.pair_column=p"], r"the text in column 'p' is empty"),
    ],
)
def test_a_mistake_names_file_line_and_column(tmp_path, row, overrides, message):
    with pytest.raises(ValueError, match=rf"a\.jsonl, {message}" if message.startswith("line") else message):
        read(write(tmp_path / "a.jsonl", row), *overrides)


def test_minus_one_hundred_is_a_name_like_any_other_and_its_neighbours_are_numbers(tmp_path):
    assert read(write(tmp_path / "a.jsonl", {"text": "t", "label": -100}))[0].label == "-100"
    rows = [{"text": "t", "label": number} for number in (100, -100.00001, 1e39)]
    numbers = [one.label for one in read(write(tmp_path / "b.jsonl", *rows), "task.kind=regression")]
    assert numbers == [100, -100.00001, 1e39]
