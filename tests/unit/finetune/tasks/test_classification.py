"""Classification from rows to predictions: labels, inputs, scores, and what transformers' own pipeline says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, pipeline

from finetune.model_directory import load_model, load_tokenizer
from finetune.reading.faults import Faults
from finetune.tasks.classification import Classification
from finetune.tasks.task import Encoded
from tests.finetuning import outputs_of, sentiment_rows, task_config, tokenizer, write_csv, write_model


def built(tmp_path: Path, rows: list[tuple[Any, ...]], *overrides: str, header: str = "text,label") -> Classification:
    """Return the task after it has seen `rows` as its training file."""
    task = Classification(task_config("classification", *overrides))
    task.learn_labels(task.read("train_file", write_csv(tmp_path / "train.csv", rows, header), Faults(skip=False)))
    return task


def encode(task: Classification, path: Path, max_length: int = 48) -> Encoded:
    return task.encode(task.read("eval_file", path, Faults(skip=False)), tokenizer(), max_length, Faults(skip=False))


def test_labels_are_sorted_and_numbers_by_value(tmp_path):
    assert built(tmp_path, sentiment_rows(4)).labels == ["negative", "positive"]
    assert built(tmp_path, [("a", "10"), ("b", "9"), ("c", "x")]).labels == ["9", "10", "x"]
    assert built(tmp_path, [("a", "y|x"), ("b", "")], "task.kind=multi_label").labels == ["x", "y"]
    assert built(tmp_path, [("a", "1.5")], "task.kind=regression").labels == []


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        (
            [("a", "x"), ("b", "y"), ("c", "z")],
            ["task.kind=binary"],
            "task.kind='binary'.*train_file has 3 labels: x, y",
        ),
        ([("a", "x")], [], "task.kind='multi_class'.*train_file has the labels: x"),
        ([("a", "")], ["task.kind=multi_label"], "train_file has the labels: none"),
        ([("a", "x"), ("b", "y")], ["task.kind=binary", "task.positive_label=z"], "positive_label='z'.*one of x, y"),
        (
            [("a", "x"), ("b", "y")],
            ["task.class_weights=given", "task.label_weights={z: 2}"],
            "label_weights names 'z', which is no label of train_file; it has x, y",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_labels_is_refused(tmp_path, rows, overrides, message):
    with pytest.raises(ValueError, match=message):
        built(tmp_path, rows, *overrides)


def test_a_label_that_training_has_not_seen_is_named_with_its_line(tmp_path):
    task = built(tmp_path, sentiment_rows(4))
    path = write_csv(tmp_path / "eval.csv", [("the ship", "positive"), ("the ship", "mixed")])
    with pytest.raises(ValueError, match=r"eval\.csv, line 3: label 'mixed' does not occur in train_file, which has"):
        task.read("eval_file", path, Faults(skip=False))
    faults = Faults(skip=True)
    assert len(task.read("eval_file", path, faults)) == 1
    assert "left out 1 examples" in faults.summary()


LONG_ROWS = [("the ship left . " * 9, "positive"), ("the ship", "negative")]  # 38 and 4 tokens


def test_a_text_that_does_not_fit_is_named_with_its_line_its_tokens_and_a_remedy(tmp_path):
    task = built(tmp_path, sentiment_rows(4))
    path = write_csv(tmp_path / "eval.csv", LONG_ROWS)
    message = r"eval\.csv, line 2: the text has 38 tokens with the special ones, more than max_length=37; .*=true"
    with pytest.raises(ValueError, match=message):
        encode(task, path, max_length=37)
    fits = encode(task, path, max_length=38)
    assert ([len(feature["input_ids"]) for feature in fits.features], fits.note) == ([38, 4], "")


def test_texts_that_do_not_fit_are_left_out_of_examples_and_inputs_alike(tmp_path):
    task = built(tmp_path, sentiment_rows(4))
    faults = Faults(skip=True)
    rows = task.read("eval_file", write_csv(tmp_path / "eval.csv", LONG_ROWS), faults)
    encoded = task.encode(rows, tokenizer(), 37, faults)
    assert [example.text for example in encoded.examples] == ["the ship"]
    assert [feature["labels"] for feature in encoded.features] == [0]
    assert len(encoded.spans) == 1
    assert "left out 1 examples of" in faults.summary()


def test_long_texts_are_cut_and_counted_if_asked_for(tmp_path):
    task = built(tmp_path, sentiment_rows(4), "task.truncate=true")
    path = write_csv(tmp_path / "eval.csv", LONG_ROWS)
    encoded = encode(task, path, max_length=10)
    assert [len(feature["input_ids"]) for feature in encoded.features] == [10, 4]
    assert tokenizer().decode(encoded.features[0]["input_ids"]).endswith(" [SEP]")
    assert encoded.note == "1 of 2 texts are cut at 10 tokens"
    assert [feature["labels"] for feature in encoded.features] == [1, 0]
    assert encode(task, path, max_length=48).note == ""


def test_of_a_pair_that_does_not_fit_the_longer_text_is_cut(tmp_path):
    keys = ["task.text_column=a", "task.pair_column=b"]
    rows = [("the ship", "it left . " * 9, "x"), ("it", "it", "y")]
    task = built(tmp_path, rows, *keys, header="a,b,label")
    with pytest.raises(ValueError, match=r"train\.csv, line 2: the two texts have 32 tokens"):
        encode(task, tmp_path / "train.csv", max_length=10)
    task = built(tmp_path, rows, *keys, "task.truncate=true", header="a,b,label")
    feature = encode(task, tmp_path / "train.csv", max_length=10).features[0]
    assert tokenizer().decode(feature["input_ids"]) == "[CLS] the ship [SEP] it left. it left [SEP]"


def test_pairs_have_two_segments(tmp_path):
    keys = ["task.text_column=a", "task.pair_column=b"]
    task = built(tmp_path, [("it", "ship", "x"), ("it", "it", "y")], *keys, header="a,b,label")
    feature = encode(task, tmp_path / "train.csv").features[0]
    assert tokenizer().decode(feature["input_ids"]) == "[CLS] it [SEP] ship [SEP]"
    assert feature["token_type_ids"] == [0, 0, 0, 1, 1]


def test_several_labels_become_one_target_each(tmp_path):
    task = built(tmp_path, [("a", "x|z"), ("b", "y"), ("c", "")], "task.kind=multi_label")
    encoded = encode(task, tmp_path / "train.csv")
    assert [feature["labels"] for feature in encoded.features] == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    outputs = np.array([[3, -3, 3], [-1, -1, -1], [-1, -1, 4]], dtype=np.float32)
    assert task.scores([outputs], encoded)["accuracy"] == pytest.approx(1 / 3)
    assert [record["predicted"] for record in task.decode([outputs], encoded)] == [["x", "z"], [], ["z"]]


def test_a_number_is_one_output(tmp_path):
    task = built(tmp_path, [("a", "1"), ("b", "2"), ("c", "4")], "task.kind=regression")
    encoded = encode(task, tmp_path / "train.csv")
    outputs = np.array([[2], [3], [5]], dtype=np.float32)
    assert task.head_settings()["id2label"] == {0: "value"}
    assert task.scores([outputs], encoded) == pytest.approx({"pearson": 1.0, "spearman": 1.0, "mse": 1.0})
    assert task.decode([outputs], encoded)[2]["predicted"] == 5.0


def test_predictions_and_probabilities_are_those_of_the_pipeline_of_transformers(tmp_path):
    folder = write_model(tmp_path / "model")
    task = built(tmp_path, sentiment_rows(8), "task.kind=binary")
    model, _ = load_model(folder, AutoModelForSequenceClassification, task.head_settings())
    examples = task.read("eval_file", tmp_path / "train.csv", Faults(skip=False))
    encoded = task.encode(examples, load_tokenizer(folder, words=False), 48, Faults(skip=False))
    ours = task.decode(outputs_of(model, task, encoded), encoded)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer(), top_k=None)
    for record, theirs in zip(ours, classify([example.text for example in examples]), strict=True):
        assert record["predicted"] == theirs[0]["label"]
        assert record["probabilities"] == pytest.approx({one["label"]: one["score"] for one in theirs}, abs=1e-5)
    assert task.scores(outputs_of(model, task, encoded), encoded)["accuracy"] == np.mean(
        [record["predicted"] == record["label"] for record in ours]
    )
