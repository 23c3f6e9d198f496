"""CSV, TSV and JSON Lines give rows with their lines; every mistake names file, line and remedy."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from finetune.reading.faults import MAX_LISTED, Faults
from finetune.reading.tables import read_table

COLUMNS = {"task.text_column": "text", "task.label_column": "label"}


def read(path: Path, *, skip: bool = False) -> list[tuple[str, dict[str, Any]]]:
    faults = Faults(skip=skip)
    return [(str(place), row) for place, row in read_table("train_file", path, COLUMNS, faults)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_csv_keeps_newlines_quotes_and_commas_in_fields_and_counts_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'label,text,id\r\nx,"two\r\nlines, ""one""",1\r\n\r\ny,plain,2\r\n')
    assert read(path) == [
        (f"{path}, line 2", {"label": "x", "text": 'two\r\nlines, "one"', "id": "1"}),
        (f"{path}, line 5", {"label": "y", "text": "plain", "id": "2"}),
    ]


def test_tsv_has_no_quoting(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\nsay "yes\tx\n')
    assert read(path) == [(f"{path}, line 2", {"text": 'say "yes', "label": "x"})]


def test_json_lines_keep_types_and_pass_over_blank_lines(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n\n{"label": ["x"], "text": "b"}\n')
    assert read(path) == [
        (f"{path}, line 1", {"text": "a", "label": 1}),
        (f"{path}, line 3", {"text": "b", "label": ["x"]}),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read(write(tmp_path / "a.csv", "\ufefftext,label\na,x\n"))[0][1] == {"text": "a", "label": "x"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "sentence,label\na,x\n",
            r"task\.text_column=text is not a column of .*a\.csv; it has 'sentence'",
        ),
        ("a.jsonl", '{"body": "a"}\n', r"task\.text_column=text is not a column of .*a\.jsonl; it has 'body'"),
        ("a.csv", "text,label,text\na,x,b\n", r"a\.csv, line 1: the column 'text' occurs twice; rename one"),
        (
            "a.csv",
            'text,label\na,x\n"b,y\n',
            r"a\.csv, line 3: a row that begins here is not CSV \(.*double the quot",
        ),
        ("a.csv", "", r"train_file=.*a\.csv is empty; name a file with examples"),
        ("a.csv", " \n", "is empty"),
        ("a.xlsx", "x", r"train_file=.*a\.xlsx is no table, which ends in \.csv, \.tsv, \.jsonl"),
        (
            "a.csv",
            "text,label\na,x,y\n",
            r"a\.csv, line 2: 3 fields, but the first line names 2; quote fields that",
        ),
        ("a.tsv", "text\tlabel\na\n", r"a\.tsv, line 2: 1 fields, but the first line names 2; take tabs out"),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\noops\n',
            r"a\.jsonl, line 2: not JSON \(.*each line must be one JSON",
        ),
        ("a.jsonl", '{"text": "a", "label": 1}\n[1]\n', r"line 2: a JSON list, but each line must be an object"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', r"line 2: no field 'label', only 'text'; add it"),
    ],
)
def test_a_mistake_names_file_line_and_remedy(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / name, text))


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train_file=.*b\.csv does not exist; name a file"):
        read(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes(b"text,label\na,x\n\xe4,y\n")
    with pytest.raises(ValueError, match=r"c\.csv, line 3: byte 0xe4 is not UTF-8; convert"):
        read(tmp_path / "c.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ValueError, match=r"d\.csv is not a file"):
        read(tmp_path / "d.csv")


def test_skip_leaves_out_counts_and_lists(tmp_path):
    bad = MAX_LISTED + 3
    path = write(tmp_path / "a.csv", "text,label\n" + "a,x\n" * 2 + "a,x,y\n" * bad)
    faults = Faults(skip=True)
    assert len(list(read_table("train_file", path, COLUMNS, faults))) == 2
    lines = faults.summary().splitlines()
    assert len(lines) == MAX_LISTED + 1
    assert re.search(r"a\.csv, line 4: 3 fields", lines[0])
    assert lines[-1] == f"left out {bad} examples of {path}"


def test_real_rows_with_newlines_are_those_of_the_csv_module(shared_data):
    path = shared_data / "downstream" / "banking77" / "train.csv"
    columns = {"task.text_column": "text", "task.label_column": "category"}
    ours = [row for _, row in read_table("train_file", path, columns, Faults(skip=False))]
    with path.open(encoding="utf-8", newline="") as file:
        assert ours == list(csv.DictReader(file))
    assert len(ours) == 10003
