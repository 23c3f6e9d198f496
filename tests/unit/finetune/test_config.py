"""Every YAML of fine-tuning composes; every mistake on the command line gets one clear message."""

from pathlib import Path

import pytest

from conf.compose import compose, to_dict
from conf.sweep import sweep
from finetune.compare_config import CompareConfig
from finetune.config import CONF_PACKAGE, SCHEMAS, FinetuneConfig, compose_finetune
from finetune.predict_config import PredictConfig
from finetune.task_config import TASK_CONFIGS, task_name

CONF = Path(__file__).resolve().parents[3] / "conf" / "finetune"
NEEDED = ["model=MODEL", "train_file=TRAIN", "eval_file=EVAL", "output_dir=OUT"]
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))


def finetune(*overrides: str, task: str = "classification") -> FinetuneConfig:
    return compose_finetune([f"task={task}", *NEEDED, *overrides])


def test_every_task_has_a_yaml_and_a_schema():
    assert sorted(SCHEMAS) == sorted(TASK_CONFIGS) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_of_every_task_compose(task):
    config = finetune(task=task)
    assert isinstance(config, SCHEMAS[task])
    assert task_name(config.task) == task
    assert to_dict(config)["model"] == "MODEL"


def test_model_and_tracking_are_plain_keys_here():
    config = finetune("tracking=wandb", "model=some/dir")
    assert (config.tracking, config.model) == ("wandb", "some/dir")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rat=1", "Did you mean training.learning_rate"),
        ("task.text_colum=x", "Did you mean task.text_column"),
        ("on_error=ignore", r"on_error: Invalid value 'ignore', expected one of \[raise, skip\]"),
        ("tracking=mlflow", r"tracking: Invalid value 'mlflow', expected one of \[none, tensorboard, wandb\]"),
        ("seeds=[]", "seeds=\\[\\] is not valid: at least one"),
        ("seeds=[1,1]", "each one once"),
        ("seeds=[-1]", "seeds=\\[-1\\] is not valid: 0 to"),
        ("max_length=0", "max_length=0 is not valid: null or at least 1 token"),
        ("training.epochs=0", "training.epochs=0.0 is not valid: above 0"),
        ("training.micro_batch_size=0", "training.micro_batch_size=0 is not valid: at least 1"),
        ("training.learning_rate=-1", "training.learning_rate=-1.0 is not valid"),
        ("training.warmup_ratio=1", "training.warmup_ratio=1.0 is not valid: at least 0 and below 1"),
        ("training.layer_decay=0", "training.layer_decay=0.0 is not valid"),
        ("training.train_top_layers=-1", "training.train_top_layers=-1 is not valid"),
        ("evaluation.patience=0", "evaluation.patience=0 is not valid: at least 1"),
        ("task.kind=ternary", "task.kind: Invalid value 'ternary'"),
        ("task.positive_label=yes", "only task.kind=binary has one, and this is task.kind=multi_class"),
        ("task.class_weights=given", "task.label_weights=None is not valid: weights by label"),
        ("task.label_weights={a: 2}", "task.label_weights={'a': 2.0} is not valid.*task.class_weights=given"),
        ("task.label_column=text", "task.label_column='text' is not valid: a column of its own"),
    ],
)
def test_a_wrong_override_is_named_with_its_remedy(override, message):
    with pytest.raises(ValueError, match=message):
        finetune(override)


def test_weights_of_a_regression_are_refused():
    with pytest.raises(ValueError, match=r"task\.class_weights='balanced' is not valid: task\.kind=regression has no"):
        finetune("task.kind=regression", "task.class_weights=balanced")


@pytest.mark.parametrize("arguments", [NEEDED, ["task=translation", *NEEDED]])
def test_a_task_that_does_not_exist_is_named_with_those_that_do(arguments):
    with pytest.raises(ValueError, match=r"task=.* is not valid: one of classification, tagging, quest"):
        compose_finetune(arguments)


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="train_file"):
        compose_finetune(["task=tagging", "model=M", "eval_file=E", "output_dir=O"])


def test_the_defaults_of_prediction_and_comparison_compose():
    predict = compose("predict", PredictConfig, ["model=M", "input=I"], package=CONF_PACKAGE)
    assert (predict.output, predict.labelled, predict.n_best) == ("-", None, 0)
    comparison = compose("compare", CompareConfig, ["run_dir=R"], package=CONF_PACKAGE)
    assert comparison.steps == "all"


@pytest.mark.parametrize("task", TASKS)
def test_a_search_runs_its_trials_with_what_its_sampler_chooses(task, tmp_path):
    seen = []

    def run(number: int, chosen: list[str], config: FinetuneConfig) -> float:
        assert chosen == [f"training.learning_rate={config.training.learning_rate}"]
        seen.append((number, config.training.learning_rate, task_name(config.task)))
        return config.training.learning_rate

    arguments = [f"task={task}", *NEEDED[:-1], f"output_dir={tmp_path}", "hydra.sweeper.n_trials=3"]
    ranges = "training.learning_rate=tag(log, interval(1e-5, 1e-3))"
    for _ in range(2):
        sweep("search", SCHEMAS[task], [*arguments, ranges], run, package=CONF_PACKAGE)
    assert seen[:3] == seen[3:]  # a seed
    assert [(number, name) for number, _, name in seen[:3]] == [(0, task), (1, task), (2, task)]
    assert all(1e-5 <= rate <= 1e-3 for _, rate, _ in seen)


def test_every_yaml_of_the_folder_is_composed_by_these_tests():
    entries = {path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    tasks = {f"task/{task}.yaml" for task in TASKS}
    sampler = "hydra/sweeper/sampler/seeded_tpe.yaml"  # of search
    assert entries == {"finetune.yaml", "predict.yaml", "compare.yaml", "search.yaml", sampler, *tasks}
