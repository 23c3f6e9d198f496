"""A task is written beside its model and read again the same."""

import json

import pytest

from finetune.tasks.build import TASK_FILE, build_task, read_task, write_task
from tests.finetuning import task_config


@pytest.mark.parametrize(
    ("name", "overrides", "labels"),
    [
        ("classification", ["task.class_weights=given", "task.label_weights={a: 2}"], ["a", "b"]),
        ("tagging", ["task.scheme=bioes", "task.by_character=true"], ["O", "B-X", "I-X"]),
        ("question_answering", ["task.no_answer=true", "task.scoring=chinese"], []),
    ],
)
def test_a_task_comes_back_with_its_config_and_labels(tmp_path, name, overrides, labels):
    config = task_config(name, *overrides)
    write_task(build_task(config, labels), config, 77, tmp_path)
    found = read_task(tmp_path)
    assert found.max_length == 77
    assert found.task.labels == labels
    assert type(found.task) is type(build_task(config))
    assert found.task.config == config


def test_a_directory_that_was_not_fine_tuned_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no finetune\.json: it is not a model that python -m finetune wrote"):
        read_task(tmp_path)
    for content in ("{", json.dumps({"task": "translation"}), json.dumps({"task": "tagging", "config": {"x": 1}})):
        (tmp_path / TASK_FILE).write_text(content)
        with pytest.raises(ValueError, match=r"finetune\.json is not one of this release"):
            read_task(tmp_path)
