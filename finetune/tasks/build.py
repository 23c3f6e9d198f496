"""Configs -> tasks; a fine-tuned model's task -> a JSON file beside it, and back."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.compose import to_dict
from finetune.task_config import (
    TASK_CONFIGS,
    ClassificationConfig,
    QuestionAnsweringConfig,
    TaggingConfig,
    TaskConfig,
    TaskName,
    task_name,
)
from finetune.tasks.classification import Classification
from finetune.tasks.question_answering import QuestionAnswering
from finetune.tasks.tagging import Tagging
from finetune.tasks.task import Task

TASK_FILE = "finetune.json"


@dataclasses.dataclass(frozen=True, slots=True)
class FinetunedTask:
    """What a fine-tuned model needs to be used again: its task, and the tokens of an input."""

    task: Task
    max_length: int


def build_task(config: TaskConfig, labels: Sequence[str] = ()) -> Task:
    """Return the task of a config; with `labels`, those of the training, it needs to learn none."""
    if isinstance(config, ClassificationConfig):
        return Classification(config, labels)
    if isinstance(config, TaggingConfig):
        return Tagging(config, labels)
    assert isinstance(config, QuestionAnsweringConfig)
    return QuestionAnswering(config, labels)


def write_task(task: Task, config: TaskConfig, max_length: int, directory: Path) -> None:
    """Write what `read_task` needs beside a fine-tuned model."""
    content = {
        "task": task_name(config).value,
        "labels": task.labels,
        "max_length": max_length,
        "config": to_dict(config),
    }
    (directory / TASK_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_task(directory: Path) -> FinetunedTask:
    """Return the task that the model of a directory was fine-tuned for. Raises ValueError when it was for none."""
    path = directory / TASK_FILE
    if not path.is_file():
        raise ValueError(f"{directory} has no {TASK_FILE}: it is not a model that python -m finetune wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = TASK_CONFIGS[TaskName(content["task"])]
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content["config"]))
        assert isinstance(config, TaskConfig)
        return FinetunedTask(build_task(config, content["labels"]), int(content["max_length"]))
    except (OmegaConfBaseException, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not one of this release: {reason}") from error
