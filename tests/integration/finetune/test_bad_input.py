"""Every mistake ends fine-tuning with one message that names file, line and remedy, before any training."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.__main__ import main
from tests.finetuned import FILES
from tests.finetuning import (
    entity_sentences,
    question,
    sentiment_rows,
    write_conll,
    write_csv,
    write_model,
    write_questions,
    write_squad,
)

CONTEXT = "the ship left paris , and anna saw it ."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "model")
    for split in ("train", "eval"):
        write_csv(tmp_path / f"{split}.csv", sentiment_rows(4))
        write_conll(tmp_path / f"{split}.conll", entity_sentences(4))
        write_questions(tmp_path / f"{split}.json", 2)
    return tmp_path


def arguments(folder: Path, task: str, *more: str) -> list[str]:
    files = [f"{split}_file={folder / split}.{FILES[task]}" for split in ("train", "eval")]
    return [f"task={task}", f"model={folder / 'model'}", f"output_dir={folder / 'out'}", *files, *more]


def eval_predictions(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out" / "seed-0" / "eval_predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def run_folder(folder: Path) -> None:
    shutil.rmtree(folder / "model")
    (folder / "model" / "checkpoints" / "step-00000010").mkdir(parents=True)
    (folder / "model" / "checkpoints" / "step-00000010" / "COMPLETE.json").write_text("{}")


def no_tokenizer(folder: Path) -> None:
    (folder / "model" / "tokenizer.json").unlink()


def filled_output(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "old").write_text("")


def unseen_label(folder: Path) -> None:
    write_csv(folder / "eval.csv", [("it", "positive"), ("it", "mixed")])


def empty_text(folder: Path) -> None:
    write_csv(folder / "train.csv", [*sentiment_rows(4), (" ", "positive")])


def long_text(folder: Path) -> None:
    write_csv(folder / "eval.csv", [*sentiment_rows(2), ("the ship " * 40, "positive")])


def empty_file(folder: Path) -> None:
    (folder / "eval.csv").write_text("")


def only_a_header(folder: Path) -> None:
    write_csv(folder / "eval.csv", [])


def invalid_tags(folder: Path) -> None:
    write_conll(folder / "train.conll", [*entity_sentences(1), [("it", "O"), ("paris", "I-LOC")]])


def misplaced_answer(folder: Path) -> None:
    write_squad(folder / "eval.json", [question("q7", "who ?", "anna", CONTEXT, 20)], CONTEXT)


def keep(folder: Path) -> None:
    pass


Case = tuple[str, str, Callable[[Path], None], list[str], str]
C, T, Q = "classification", "tagging", "question_answering"
CASES: list[Case] = [
    ("unknown task", C, keep, ["task=parsing"], r"task='parsing' is not valid: one of classification, tagg"),
    ("unknown key", T, keep, ["task.schema=iob1"], r"Did you mean task\.scheme"),
    ("column", C, keep, ["task.text_column=body"], r"task\.text_column=body is .*it has 'text', 'label'"),
    ("unseen label", C, unseen_label, [], r"eval\.csv, line 3: label 'mixed' does not occur in train_file"),
    ("empty text", C, empty_text, [], r"train\.csv, line 6: the text in column 'text' is empty; fill it or"),
    ("long text", C, long_text, [], r"eval\.csv, line 4: the text has 82 tokens .*max_length=48; .*truncate=true"),
    ("empty file", C, empty_file, [], r"eval_file=.*eval\.csv is empty; name a file with examples"),
    ("no rows", C, only_a_header, [], r"eval_file=.*eval\.csv has no example that can be used"),
    ("missing file", C, keep, ["eval_file=none.csv"], r"eval_file=none\.csv does not exist; name a file"),
    ("tags", T, invalid_tags, [], r"train\.conll, line 11: tag 'I-LOC' after 'O' is not valid iob2.*scheme=iob1"),
    ("answer", Q, misplaced_answer, [], r"eval\.json, question q7: .*answer_start=26 would be right"),
    ("overlap", Q, keep, [], r"train\.json, question 0-who: .*task\.window_overlap=128 must be below"),
    ("positions", T, keep, ["max_length=49"], r"max_length=49 is not valid: the model has 48 positions"),
    ("length", C, keep, ["max_length=4"], r"max_length=4 is not valid: at least 5: two word pieces and special"),
    ("no tokenizer", T, no_tokenizer, [], r"model=.*model has no tokenizer \(tokenizer\.json or vocab\.txt\)"),
    ("a run", T, run_folder, [], r"is the folder of a run.*pretrain\.export run_dir=.*model output_dir=DIR"),
    ("output", T, filled_output, [], r"output_dir=.*out exists and is not an empty directory; name another"),
    ("metric", T, keep, ["evaluation.metric=bleu"], r"metric='bleu' is not valid: one of f1, precision"),
    ("kind", C, keep, ["task.kind=regression"], r"train\.csv, line 2: .*'positive', which is no number"),
    ("interval", T, keep, ["evaluation.every=99"], r"evaluation\.every=99 is not valid: at most the run's 3"),
    ("micro-batch", T, keep, ["training.micro_batch_size=5"], r"micro_batch_size=5.*the 32 inputs.*nearest: 4"),
    ("layers", T, keep, ["training.train_top_layers=3"], r"train_top_layers=3.*the model has 2 layers"),
    ("deepspeed", T, keep, ["deepspeed=none.json"], r"deepspeed=none\.json does not exist; name a file"),
]


@pytest.mark.parametrize(("task", "spoil", "more", "message"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_mistake_ends_in_one_message_and_nothing_is_written(folder, capsys, task, spoil, more, message):
    spoil(folder)
    before = sorted(folder.rglob("*"))
    assert main(arguments(folder, task, *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{message}", line), line
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_is_told_how_to_export(folder, capsys):
    run_folder(folder)
    checkpoint = folder / "model" / "checkpoints" / "step-00000010"
    assert main([*arguments(folder, "tagging"), f"model={checkpoint}"]) == 2
    command = f"python -m pretrain.export run_dir={folder / 'model'} tag=step-00000010 output_dir=DIR"
    assert command in capsys.readouterr().err


def test_skip_counts_and_lists_what_is_left_out_and_trains_on_the_rest(folder, capsys):
    empty_text(folder)
    write_csv(folder / "eval.csv", [("it", "positive"), ("it", "mixed"), ("the ship " * 40, "positive")])
    assert main(arguments(folder, "classification", "on_error=skip", "training.max_steps=1")) == 0
    printed = capsys.readouterr().out
    assert f"{folder / 'train.csv'}, line 6: the text in column 'text' is empty" in printed
    assert f"{folder / 'eval.csv'}, line 3: label 'mixed' does not occur" in printed
    assert f"{folder / 'eval.csv'}, line 4: the text has 82 tokens with the special ones, more than" in printed
    assert f"left out 2 examples of {folder / 'eval.csv'}" in printed
    assert "train: 4 examples of train.csv" in printed
    assert [one["label"] for one in eval_predictions(folder)] == ["positive"]


def test_sentences_that_cannot_be_used_are_left_out_of_a_tagging(folder, capsys):
    invalid_tags(folder)
    write_conll(folder / "eval.conll", [[("it", "O"), ("2" + "." * 60, "O")], *entity_sentences(2), [("it", "B-ORG")]])
    assert main(arguments(folder, "tagging", "on_error=skip", "training.max_steps=1")) == 0
    printed = capsys.readouterr().out
    assert f"{folder / 'train.conll'}, line 11: tag 'I-LOC' after 'O' is not valid" in printed
    assert f"{folder / 'eval.conll'}, line 2: the word '2...." in printed
    assert f"{folder / 'eval.conll'}, line 22: entity type 'ORG' does not occur" in printed
    assert f"left out 2 examples of {folder / 'eval.conll'}" in printed
    assert "train: 1 examples of train.conll" in printed
    words = [[word for word, _ in sentence] for sentence in entity_sentences(2)]
    assert [one["words"] for one in eval_predictions(folder)] == words


def test_questions_that_cannot_be_used_are_left_out_of_a_question_answering(folder, capsys):
    good = question("q1", "who saw it ?", "anna", CONTEXT)
    records = [
        good,
        "who ?",
        question("q7", "who ?", "anna", CONTEXT, 20),
        good | {"id": "q8", "question": "who ? " * 30},
    ]
    write_squad(folder / "eval.json", records, CONTEXT)
    more = ["on_error=skip", "training.max_steps=1", "task.window_overlap=4"]
    assert main(arguments(folder, "question_answering", *more)) == 0
    printed = capsys.readouterr().out
    assert f"{folder / 'eval.json'}, question 2 of the file: not a question" in printed
    assert f"{folder / 'eval.json'}, question q7: the answer 'anna' is not at answer_start=20" in printed
    assert f"{folder / 'eval.json'}, question q8: " in printed
    assert f"left out 3 examples of {folder / 'eval.json'}" in printed
    assert [one["id"] for one in eval_predictions(folder)] == ["q1"]


def test_nothing_left_is_an_error_that_lists_why(folder, capsys):
    write_csv(folder / "eval.csv", [("", "positive")])
    assert main(arguments(folder, "classification", "on_error=skip")) == 2
    printed = capsys.readouterr().err
    assert re.search(r"eval_file=.*eval\.csv has no example that can be used\n.*line 2: the text in column", printed)
