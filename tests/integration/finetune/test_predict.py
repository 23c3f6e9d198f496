"""Prediction as users start it: what fine-tuning predicted, from files and from standard input, with reports."""

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune.predict import main
from tests.finetuned import finetuned, write_files
from tests.finetuning import entity_sentences, question, sentiment_rows, write_conll, write_csv, write_squad

CONTEXT = "the ship left oslo , and anna saw it in the harbour ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each task, and their files."""
    folder = write_files(tmp_path_factory.mktemp("predict"))
    for task in ("classification", "tagging", "question_answering"):
        finetuned(folder, task)
    return folder


def model(folder: Path, task: str) -> str:
    return f"model={folder / task / 'seed-0' / 'model'}"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def predict(folder: Path, task: str, source: Path, tmp_path: Path, *more: str) -> list[dict[str, Any]]:
    output = tmp_path / "out" / "predictions.jsonl"
    assert main([model(folder, task), f"input={source}", f"output={output}", *more]) == 0
    assert list(output.parent.iterdir()) == [output]
    return lines(output.read_text(encoding="utf-8"))


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


@pytest.mark.parametrize(
    ("task", "suffix"), [("classification", "csv"), ("tagging", "conll"), ("question_answering", "json")]
)
def test_a_file_gets_the_predictions_and_scores_of_its_fine_tuning(folder, task, suffix, tmp_path, capsys):
    found = predict(folder, task, folder / f"eval.{suffix}", tmp_path, "batch_size=3")
    before = lines((folder / task / "seed-0" / "eval_predictions.jsonl").read_text(encoding="utf-8"))
    assert [(one["at"], one["predicted"]) for one in found] == [(one["at"], one["predicted"]) for one in before]
    scores = json.loads((folder / task / "results.json").read_text(encoding="utf-8"))["mean"]["eval"]
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if len(line.split()) == 2)
    for name, value in scores.items():
        if name != "loss":
            assert printed[name] == f"{value:.4f}"


def test_lines_of_standard_input_get_labels_with_probabilities(folder, monkeypatch, capsys):
    type_in(monkeypatch, "the kind ship left anna\nthe cruel ship left bruno in the harbour\n")
    assert main([model(folder, "classification"), "input=-", "batch_size=1"]) == 0
    first, second = lines(capsys.readouterr().out)
    assert (first["at"], first["predicted"], second["predicted"]) == (
        "<standard input>, line 1",
        "positive",
        "negative",
    )
    assert first["probabilities"].keys() == {"negative", "positive"}
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)
    assert "label" not in first
    assert "pair" not in first


def test_entities_of_a_text_have_characters_and_those_of_words_have_words(folder, monkeypatch, capsys, tmp_path):
    text = "The harbour saw  Anna in Oslo harbour."
    type_in(monkeypatch, text + "\n")
    assert main([model(folder, "tagging"), "input=-"]) == 0
    (found,) = lines(capsys.readouterr().out)
    person, place = found["entities"]
    assert (person["type"], person["text"], text[person["start"] : person["end"]]) == ("PER", "Anna", "Anna")
    assert (place["type"], place["first_word"], place["last_word"]) == ("LOC", 5, 6)
    assert text[place["start"] : place["end"]] == place["text"] == "Oslo harbour"
    assert 0 < place["probability"] <= 1
    words = ["the", "harbour", "saw", "anna", "in", "oslo", "harbour", "."]
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": words}) + "\n")
    (found,) = predict(folder, "tagging", tmp_path / "a.jsonl", tmp_path)
    assert [(one["text"], one["first_word"], one["last_word"]) for one in found["entities"]] == [
        ("anna", 3, 3),
        ("oslo harbour", 5, 6),
    ]
    assert "start" not in found["entities"][0]
    assert "tags" not in found


def test_answers_have_spans_and_as_many_others_as_asked_for(folder, monkeypatch, capsys):
    row = json.dumps({"id": "q", "question": "who saw it ?", "context": CONTEXT})
    type_in(monkeypatch, row + "\n")
    assert main([model(folder, "question_answering"), "input=-", "n_best=3"]) == 0
    (found,) = lines(capsys.readouterr().out)
    assert CONTEXT[found["start"] : found["end"]] == found["predicted"] == "anna"
    assert len(found["candidates"]) == 3
    assert found["candidates"][0] == {"text": "anna"} | {
        name: found[name] for name in ("start", "end", "score", "probability")
    }
    scores = [one["score"] for one in found["candidates"]]
    assert scores == sorted(scores, reverse=True)
    type_in(monkeypatch, row + "\n")
    assert main([model(folder, "question_answering"), "input=-"]) == 0
    assert "candidates" not in lines(capsys.readouterr().out)[0]


@pytest.mark.parametrize(("task", "suffix", "classes"), [("classification", "csv", 2), ("tagging", "conll", 2)])
def test_a_report_is_text_json_and_a_picture(folder, task, suffix, classes, tmp_path, capsys):
    predict(folder, task, folder / f"eval.{suffix}", tmp_path, f"report_dir={tmp_path / 'report'}")
    text = (tmp_path / "report" / "report.txt").read_text(encoding="utf-8")
    assert text.strip() in capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["examples"] == 18
    assert len(report["classes"]) == classes
    assert sum(map(sum, report["confusion"]["counts"])) == (18 if task == "classification" else 18 * 8)
    assert (tmp_path / "report" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_without_labels_is_predicted_and_cannot_be_reported_on(folder, tmp_path, capsys):
    source = write_csv(tmp_path / "a.csv", [(text,) for text, _ in sentiment_rows(5)], header="text")
    assert len(predict(folder, "classification", source, tmp_path)) == 5
    assert "accuracy" not in capsys.readouterr().out
    assert main([model(folder, "classification"), f"input={source}", f"report_dir={tmp_path / 'r'}"]) == 2
    assert "has no labels that could be scored" in capsys.readouterr().err
    assert main([model(folder, "classification"), f"input={source}", "labelled=true"]) == 2
    assert "task.label_column=label is not a column of" in capsys.readouterr().err


def test_what_cannot_be_used_is_left_out_counted_and_listed_and_the_order_stays(folder, tmp_path, capsys):
    rows = [*sentiment_rows(3), ("", "positive"), ("the ship", "neutral"), *sentiment_rows(40)]
    source = write_csv(tmp_path / "a.csv", rows)
    found = predict(folder, "classification", source, tmp_path, "on_error=skip", "batch_size=2")
    assert [one["text"] for one in found] == [text for text, label in rows if text and label != "neutral"]
    out = capsys.readouterr().out
    assert "a.csv, line 5: the text in column 'text' is empty" in out
    assert "a.csv, line 6: label 'neutral' does not occur in train_file" in out
    assert "left out 2 examples of" in out


def test_sentences_that_cannot_be_used_are_left_out_counted_and_listed(folder, tmp_path, capsys):
    sentences = entity_sentences(5)
    long = [("it", "O"), ("2" + "." * 60, "O")]
    source = write_conll(tmp_path / "a.conll", [sentences[0], long, [("it", "I-LOC")], *sentences[1:]])
    found = predict(folder, "tagging", source, tmp_path, "on_error=skip", "batch_size=2")
    assert [one["words"] for one in found] == [[word for word, _ in sentence] for sentence in sentences]
    out = capsys.readouterr().out
    assert "a.conll, line 11: the word '2....." in out
    assert "a.conll, line 13: tag 'I-LOC' after 'O' is not valid iob2" in out
    assert f"left out 2 examples of {source}" in out


def test_questions_that_cannot_be_used_are_left_out_counted_and_listed(folder, tmp_path, capsys):
    good = [question(f"q{number}", "who saw it ?", "anna", CONTEXT) for number in range(4)]
    wrong = [
        good[0] | {"id": "a", "answers": [{"text": "anna", "answer_start": "25"}]},
        good[0] | {"id": "b", "question": ""},
    ]
    source = write_squad(tmp_path / "a.json", [*good[:2], *wrong, *good[2:]], CONTEXT)
    found = predict(folder, "question_answering", source, tmp_path, "on_error=skip", "batch_size=2")
    assert [one["id"] for one in found] == ["q0", "q1", "q2", "q3"]
    out = capsys.readouterr().out
    assert "a.json, question a: not a question (TypeError: '25' where int is due)" in out
    assert "a.json, question b: the question is empty" in out
    assert f"left out 2 examples of {source}" in out


def test_a_text_that_is_too_long_is_named_and_left_out_or_cut_if_asked_for(folder, tmp_path, capsys):
    source = write_csv(tmp_path / "a.csv", [*sentiment_rows(2), ("the ship " * 40, "positive"), *sentiment_rows(3)])
    where = f"{source}, line 4: the text has 82 tokens with the special ones, more than max_length=48; "
    assert main([model(folder, "classification"), f"input={source}"]) == 2
    assert where in (error := capsys.readouterr().err)
    assert "truncate=true" in error
    kept = predict(folder, "classification", source, tmp_path / "skip", "on_error=skip")
    out = capsys.readouterr().out
    assert where in out
    assert f"left out 1 examples of {source}" in out
    assert f"5 predictions of {source}\n" in out
    found = predict(folder, "classification", source, tmp_path / "cut", "truncate=true")
    assert f"6 predictions of {source}; 1 of 6 texts are cut at 48 tokens" in capsys.readouterr().out
    assert [one["at"] for one in found] == [f"{source}, line {number}" for number in range(2, 8)]
    assert [one["at"] for one in kept] == [one["at"] for one in found if one["at"] != f"{source}, line 4"]


@pytest.mark.parametrize(
    ("task", "more", "message"),
    [
        ("classification", ["input=missing.csv"], "input=missing.csv does not exist; name a file"),
        ("classification", ["input=a.xlsx"], "input=a.xlsx has none of the suffixes .csv, .tsv, .jsonl, .ndjson, .txt"),
        (
            "classification",
            ["input=a.csv", "format=squad"],
            "format='squad' is not valid: null, or what this model takes",
        ),
        ("classification", ["input=-", "labelled=true"], "labelled=True is not valid: lines of text have no labels"),
        ("classification", ["input=-", "labelled=false", "report_dir=r"], "report_dir='r' is not valid: null"),
        ("classification", ["input=-", "batch_size=0"], "batch_size=0 is not valid: at least 1"),
        (
            "tagging",
            ["input=-", "truncate=true"],
            "truncate=True is not valid: null: only classification cuts texts",
        ),
        ("classification", ["input=-", "n_bst=1"], "Did you mean n_best"),
        (
            "question_answering",
            ["input=-", "format=text"],
            "format='text' is not valid: null, or what this model takes",
        ),
    ],
)
def test_a_mistake_ends_with_one_message(folder, task, more, message, capsys, monkeypatch):
    type_in(monkeypatch, "the ship\n")
    assert main([model(folder, task), *more]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_an_empty_line_of_standard_input_is_named(folder, capsys, monkeypatch):
    type_in(monkeypatch, "the ship\n\nthe harbour\n")
    assert main([model(folder, "classification"), "input=-"]) == 2
    assert "<standard input>, line 2: the line is empty; remove it (on_error=skip" in capsys.readouterr().err


def test_a_wrong_column_lists_those_that_exist(folder, tmp_path, capsys):
    source = write_csv(tmp_path / "a.csv", [("x", "y")], header="sentence,label")
    assert main([model(folder, "classification"), f"input={source}"]) == 2
    assert "task.text_column=text is not a column of" in (error := capsys.readouterr().err)
    assert "it has 'sentence', 'label'" in error


def test_an_output_that_exists_is_left_alone_and_a_failed_one_leaves_nothing(folder, tmp_path, capsys):
    (tmp_path / "out.jsonl").write_text("mine")
    name = f"output={tmp_path / 'out.jsonl'}"
    assert main([model(folder, "classification"), f"input={folder / 'eval.csv'}", name]) == 2
    assert "exists; name another file, or remove it" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    source = write_csv(tmp_path / "a.csv", [*sentiment_rows(40), ("", "positive")])
    more = [f"input={source}", f"output={tmp_path / 'new.jsonl'}", "batch_size=1"]
    assert main([model(folder, "classification"), *more]) == 2
    assert "a.csv, line 42: the text in column 'text' is empty" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "a.csv"}


def test_a_model_without_its_task_and_a_folder_of_several_are_named(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "plain")
    assert main([f"model={tmp_path / 'plain'}", "input=-"]) == 2
    assert "has no finetune.json: it is not a model that python -m finetune wrote" in capsys.readouterr().err
    assert main([f"model={folder / 'tagging'}", "input=-"]) == 2
    assert f"its best model is model={folder / 'tagging' / 'seed-0' / 'model'}" in capsys.readouterr().err
