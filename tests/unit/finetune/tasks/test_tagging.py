"""Tagging from files to entities: labels, long sentences, scores, and what transformers' own pipeline says."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForTokenClassification, pipeline

from finetune.label_alignment import IGNORE_INDEX
from finetune.model_directory import load_model
from finetune.reading.faults import Faults
from finetune.tasks.tagging import Sentence, Tagging, entities
from finetune.tasks.task import Encoded, Logits
from tests.finetuning import entity_sentences, outputs_of, task_config, tokenizer, write_conll, write_model


@pytest.fixture
def task(tmp_path: Path) -> Tagging:
    task = Tagging(task_config("tagging"))
    path = write_conll(tmp_path / "train.conll", entity_sentences(6))
    task.learn_labels(task.read("train_file", path, Faults(skip=False)))
    return task


def read(task: Tagging, path: Path, *, skip: bool = False) -> list[Sentence]:
    return task.read("eval_file", path, Faults(skip=skip))


def perfect(task: Tagging, encoded: Encoded) -> Logits:
    """Return outputs that name the right tag at each word's first token, and a wrong one everywhere else."""
    longest = max(len(feature["input_ids"]) for feature in encoded.features)
    outputs = np.zeros((len(encoded.features), longest, len(task.labels)), dtype=np.float32)
    outputs[:, :, -1] = 1
    for row, feature in enumerate(encoded.features):
        for token, label in enumerate(feature["labels"]):
            if label != IGNORE_INDEX:
                outputs[row, token, label] = 2
    return [outputs]


def test_every_entity_type_has_a_tag_that_begins_and_one_that_goes_on(task):
    assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert task.head_settings()["id2label"][1] == "B-LOC"


def test_a_training_file_without_entities_is_refused(tmp_path):
    task = Tagging(task_config("tagging"))
    examples = task.read("train_file", write_conll(tmp_path / "a.conll", [[("it", "O")]]), Faults(skip=False))
    with pytest.raises(ValueError, match=r"task\.tag_column=-1 is not valid: train_file has no entity: every tag is O"):
        task.learn_labels(examples)


def test_invalid_tags_and_unseen_types_name_their_line(task, tmp_path):
    invalid = write_conll(tmp_path / "a.conll", [[("it", "O")], [("it", "O"), ("paris", "I-LOC")]])
    with pytest.raises(ValueError, match=r"a\.conll, line 4: tag 'I-LOC' after 'O' is not valid iob2"):
        read(task, invalid)
    assert len(read(task, invalid, skip=True)) == 1
    unseen = write_conll(tmp_path / "b.conll", [[("it", "O"), ("paris", "B-ORG")]])
    with pytest.raises(ValueError, match=r"b\.conll, line 2: entity type 'ORG' does not occur in train_file, which"):
        read(task, unseen)


def test_long_sentences_are_cut_between_words_and_scored_whole(task, tmp_path):
    sentence = entity_sentences(1)[0] * 3
    path = write_conll(tmp_path / "long.conll", [sentence, sentence[:7]])
    encoded = task.encode(read(task, path), tokenizer(), 11, Faults(skip=False))
    assert encoded.note == "1 of 2 sentences are cut into parts of at most 11 tokens"
    assert [len(feature["input_ids"]) for feature in encoded.features] == [11, 10, 11, 6, 11]
    outputs = perfect(task, encoded)
    assert task.predicted_tags(outputs, encoded) == [[tag for _, tag in sentence], [tag for _, tag in sentence[:7]]]
    assert task.scores(outputs, encoded) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    assert [entity["type"] for entity in task.decode(outputs, encoded)[0]["entities"]] == ["PER", "LOC"] * 3


@pytest.mark.parametrize("by_character", ["false", "true"])
def test_a_word_longer_than_an_input_is_named_with_its_own_line(tmp_path, by_character):
    task = Tagging(task_config("tagging", f"task.by_character={by_character}"), ["O"])
    path = write_conll(tmp_path / "a.conll", [[("it", "O")], [("北京", "O"), ("saw", "O"), ("2" + "." * 9, "O")]])
    with pytest.raises(ValueError, match=r"a\.conll, line 5: the word '2\.+' has 10 word pieces, more than max_len"):
        task.encode(read(task, path), tokenizer(), 8, Faults(skip=False))


def test_a_word_without_word_pieces_is_outside(task):
    encoded = task.encode(
        [Sentence([], ["anna", "\u200d", "saw"], ["B-PER", "O", "O"])], tokenizer(), 48, Faults(skip=False)
    )
    assert task.predicted_tags(perfect(task, encoded), encoded) == [["B-PER", "O", "O"]]


def test_chinese_characters_are_tagged_one_by_one(tmp_path):
    task = Tagging(task_config("tagging", "task.by_character=true"))
    path = write_conll(tmp_path / "a.conll", [[("我", "O"), ("爱", "O"), ("北京", "B-LOC")]])
    sentences = task.read("train_file", path, Faults(skip=False))
    task.learn_labels(sentences)
    (feature,) = task.encode(sentences, tokenizer(), 48, Faults(skip=False)).features
    assert feature["labels"] == [IGNORE_INDEX, 0, 0, 1, 2, IGNORE_INDEX]


@pytest.mark.parametrize(
    ("by_character", "words", "last"),
    [("true", [*"北京大学", "in", "oslo"], 3), ("false", ["北京", "大学", "in", "oslo"], 1)],
)
def test_a_chinese_entity_of_a_file_is_written_without_blanks(tmp_path, by_character, words, last):
    task = Tagging(task_config("tagging", f"task.by_character={by_character}"))
    rows = [("北京", "B-ORG"), ("大学", "I-ORG"), ("in", "O"), ("oslo", "B-LOC")]
    sentences = read(task, write_conll(tmp_path / "a.conll", [rows]))
    task.learn_labels(sentences)
    encoded = task.encode(sentences, tokenizer(), 48, Faults(skip=False))
    (record,) = task.decode(perfect(task, encoded), encoded)
    assert record["words"] == words
    found = [(one["text"], one["first_word"], one["last_word"]) for one in record["entities"]]
    assert found == [("北京大学", 0, last), ("oslo", last + 2, last + 2)]


def test_predicted_tags_are_those_of_the_pipeline_of_transformers(task, tmp_path):
    folder = write_model(tmp_path / "model", seed=3)
    model, _ = load_model(folder, AutoModelForTokenClassification, task.head_settings())
    sentences = read(task, write_conll(tmp_path / "eval.conll", entity_sentences(4)))
    encoded = task.encode(sentences, tokenizer(), 48, Faults(skip=False))
    ours = task.predicted_tags(outputs_of(model, task, encoded), encoded)
    tag = pipeline("token-classification", model=model, tokenizer=tokenizer(), ignore_labels=[])
    for sentence, tags in zip(sentences, ours, strict=True):
        found = tag(" ".join(sentence.words))
        assert tags == [one["entity"] for one in found if not one["word"].startswith("##")]


def test_entities_have_their_words():
    assert list(entities(["B-PER", "I-PER", "O", "I-LOC"])) == [
        {"type": "PER", "first_word": 0, "last_word": 1},
        {"type": "LOC", "first_word": 3, "last_word": 3},
    ]
