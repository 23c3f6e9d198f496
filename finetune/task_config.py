"""The config group `task`: one dataclass per task, checked when built; defaults are in `conf/finetune/task/`."""

import math
from dataclasses import dataclass
from enum import StrEnum

from conf.checks import require


class TaskName(StrEnum):
    """The tasks, by the names of their YAML files."""

    classification = "classification"
    tagging = "tagging"
    question_answering = "question_answering"


class Kind(StrEnum):
    """What a classification file's label column holds."""

    binary = "binary"  # one of two labels
    multi_class = "multi_class"  # one of several
    multi_label = "multi_label"  # any number of several
    regression = "regression"  # a number


class ClassWeights(StrEnum):
    """How much each label counts in the loss."""

    none = "none"
    balanced = "balanced"
    given = "given"


class TagScheme(StrEnum):
    """How tags mark entities; `finetune/tag_schemes.py` says each scheme's rules."""

    iob1 = "iob1"
    iob2 = "iob2"
    bioes = "bioes"


class Scoring(StrEnum):
    """How exact match and F1 of answers compare text."""

    squad = "squad"  # the official scripts of SQuAD: words between blanks, English articles left out
    chinese = "chinese"  # the official script of MLQA for Chinese: a word is a character


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    """What all tasks' configs are."""


@dataclass(kw_only=True, slots=True)
class ClassificationConfig(TaskConfig):
    """One text or a pair of texts -> a label, several labels or a number."""

    kind: Kind
    text_column: str
    pair_column: str | None
    label_column: str
    label_separator: str  # between the labels of a CSV field, for kind=multi_label
    truncate: bool
    positive_label: str | None
    class_weights: ClassWeights
    label_weights: dict[str, float] | None

    def __post_init__(self) -> None:
        kind = self.kind.value
        columns = [self.text_column, self.label_column, *([self.pair_column] if self.pair_column else [])]
        require(len(set(columns)) == len(columns), "task.label_column", self.label_column, "a column of its own")
        require(bool(self.label_separator), "task.label_separator", self.label_separator, "at least one character")
        require(
            self.positive_label is None or self.kind is Kind.binary,
            "task.positive_label",
            self.positive_label,
            f"only task.kind=binary has one, and this is task.kind={kind}",
        )
        require(
            self.class_weights is ClassWeights.none or self.kind is not Kind.regression,
            "task.class_weights",
            self.class_weights.value,
            "task.kind=regression has no classes; take none",
        )
        _require_label_weights(self.class_weights, self.label_weights)


@dataclass(kw_only=True, slots=True)
class TaggingConfig(TaskConfig):
    """Words -> one tag each."""

    scheme: TagScheme
    word_column: int
    tag_column: int
    comment_prefix: str | None
    words_key: str
    tags_key: str
    by_character: bool
    class_weights: ClassWeights
    label_weights: dict[str, float] | None

    def __post_init__(self) -> None:
        require(self.word_column != self.tag_column, "task.tag_column", self.tag_column, "not that of the words")
        require(self.comment_prefix != "", "task.comment_prefix", self.comment_prefix, "null or some characters")
        require(self.words_key != self.tags_key, "task.tags_key", self.tags_key, "not that of the words")
        _require_label_weights(self.class_weights, self.label_weights)


@dataclass(kw_only=True, slots=True)
class QuestionAnsweringConfig(TaskConfig):
    """A question and a text -> the stretch of the text that answers it."""

    no_answer: bool  # questions may have none, as in SQuAD 2.0
    no_answer_threshold: float  # logits
    window_overlap: int  # tokens
    max_answer_tokens: int
    n_best: int
    scoring: Scoring

    def __post_init__(self) -> None:
        require(math.isfinite(self.no_answer_threshold), "task.no_answer_threshold", self.no_answer_threshold, "finite")
        require(self.window_overlap >= 0, "task.window_overlap", self.window_overlap, "zero or more tokens")
        require(self.max_answer_tokens >= 1, "task.max_answer_tokens", self.max_answer_tokens, "at least 1")
        require(self.n_best >= 1, "task.n_best", self.n_best, "at least 1")


def _require_label_weights(kind: ClassWeights, weights: dict[str, float] | None) -> None:
    given = kind is ClassWeights.given
    require(given == bool(weights), "task.label_weights", weights, "weights by label, and task.class_weights=given")
    positive = all(0 < weight < math.inf for weight in (weights or {}).values())
    require(positive, "task.label_weights", weights, "above 0 and finite")


TASK_CONFIGS: dict[TaskName, type[TaskConfig]] = {
    TaskName.classification: ClassificationConfig,
    TaskName.tagging: TaggingConfig,
    TaskName.question_answering: QuestionAnsweringConfig,
}


def task_name(config: TaskConfig) -> TaskName:
    """Return the name of the task that a config is of."""
    return next(name for name, schema in TASK_CONFIGS.items() if isinstance(config, schema))
