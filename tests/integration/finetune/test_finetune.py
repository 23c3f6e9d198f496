"""Fine-tuning as users start it: three tasks learn, the best checkpoint is kept, seeds repeat, settings take effect."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from finetune.__main__ import main
from finetune.reading.faults import Faults
from finetune.tasks.build import read_task
from tests.finetuned import FILES, QUICK, write_files
from tests.finetuning import BAD, GOOD, outputs_of, write_csv

METRIC = {"classification": "accuracy", "tagging": "f1", "question_answering": "f1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("finetune"))


def arguments(folder: Path, output_dir: Path, *more: str, task: str = "classification") -> list[str]:
    files = [f"{split}_file={folder / split}.{FILES[task]}" for split in ("train", "eval")]
    overlap = ["task.window_overlap=8"] if task == "question_answering" else []
    return [f"task={task}", f"model={folder / 'model'}", f"output_dir={output_dir}", *files, *overlap, *QUICK, *more]


def finetune(folder: Path, output_dir: Path, *more: str, task: str = "classification") -> dict[str, Any]:
    """Run the command and return its results."""
    assert main(arguments(folder, output_dir, *more, task=task)) == 0
    results: dict[str, Any] = json.loads((output_dir / "results.json").read_text(encoding="utf-8"))
    return results


def history(output_dir: Path, seed: int = 0) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output_dir / f"seed-{seed}" / "history.jsonl").read_text().splitlines()]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.fixture(scope="module", params=sorted(FILES))
def trained(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Path, dict[str, Any]]:
    task = request.param
    test_file = f"test_file={folder / 'eval'}.{FILES[task]}"
    output_dir = folder / "trained" / task
    keys = ["training.epochs=25", "evaluation.patience=6"] if task == "question_answering" else ["training.epochs=6"]
    return task, output_dir, finetune(folder, output_dir, *keys, test_file, task=task)


def test_each_task_learns_a_separable_set(trained):
    task, _, results = trained
    assert results["mean"]["eval"][METRIC[task]] >= (95.0 if task == "question_answering" else 0.95)
    assert results["mean"]["test"] == results["mean"]["eval"]  # the same file


def test_the_checkpoint_that_is_kept_has_the_best_score_of_all(trained):
    task, output_dir, results = trained
    scored = {line["step"]: line[f"eval_{METRIC[task]}"] for line in history(output_dir) if "eval_loss" in line}
    (seed,) = results["seeds"]
    assert seed["scores"]["eval"][METRIC[task]] == pytest.approx(max(scored.values()))
    assert scored[seed["best_step"]] == max(scored.values())
    assert not list((output_dir / "seed-0").glob("checkpoint-*"))


def test_the_written_model_gives_the_predictions_that_were_written(trained, folder):
    task_name, output_dir, results = trained
    directory = output_dir / "seed-0" / "model"
    found = read_task(directory)
    model = found.task.auto_class.from_pretrained(directory)
    path = folder / f"eval.{FILES[task_name]}"
    examples = found.task.read("eval_file", path, Faults(skip=False))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoded = found.task.encode(examples, tokenizer, found.max_length, Faults(skip=False))
    logits = outputs_of(model, found.task, encoded)
    scores = found.task.scores(logits, encoded)
    assert scores == pytest.approx({name: results["mean"]["eval"][name] for name in scores})
    written = [json.loads(line) for line in (output_dir / "seed-0" / "eval_predictions.jsonl").read_text().splitlines()]
    for ours, theirs in zip(found.task.decode(logits, encoded), written, strict=True):
        assert (ours["at"], ours["predicted"]) == (theirs["at"], theirs["predicted"])
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json",
        "finetune.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_seed_gives_the_same_scores_alone_and_among_others_which_are_averaged(folder, tmp_path, capsys):
    few = ["training.epochs=1", "evaluation.metric=loss"]
    several = finetune(folder, tmp_path / "several", "seeds=[3,4]", *few)
    printed = capsys.readouterr().out
    alone = finetune(folder, tmp_path / "alone", "seeds=[4]", *few)
    assert several["seeds"][1] == alone["seeds"][0]
    losses = [
        line["eval_loss"] for seed in (3, 4) for line in history(tmp_path / "several", seed) if "eval_loss" in line
    ]
    assert losses[0] != losses[1]
    assert several["best_seed"] == (3 if losses[0] < losses[1] else 4)
    assert "mean ± std" in printed
    assert several["std"]["eval"].keys() == several["mean"]["eval"].keys()


@pytest.mark.parametrize("task", ["classification", "tagging", "question_answering"])
def test_micro_batches_change_nothing(folder, tmp_path, task):
    """transformers' own losses fail here: gradients would be as many times too large as a step has micro-batches.

    So do means of micro-batches' means: of the 36 inputs the last step has 8, in micro-batches of 7 and 1.
    """
    lines = {}
    for micro in (14, 7):
        output_dir = tmp_path / str(micro)
        sizes = ["training.global_batch_size=14", f"training.micro_batch_size={micro}"]
        finetune(folder, output_dir, *sizes, "training.epochs=1", "evaluation.every=1", task=task)
        lines[micro] = [
            {k: v for k, v in line.items() if "loss" in k or k == "grad_norm"} for line in history(output_dir)
        ]
    assert sum("grad_norm" in line for line in lines[14]) == 3
    for whole, cut in zip(lines[14], lines[7], strict=True):
        assert cut == pytest.approx(whole, rel=1e-4)


def test_training_stops_early_without_a_better_score(folder, tmp_path):
    results = finetune(folder, tmp_path / "out", "training.epochs=30", "evaluation.patience=2")
    steps = [line["step"] for line in history(tmp_path / "out") if "eval_loss" in line]
    (seed,) = results["seeds"]
    assert steps[-1] == seed["best_step"] + 2 * steps[0] < 30 * steps[0]


def test_the_last_step_is_evaluated_whatever_the_interval(folder, tmp_path):
    finetune(folder, tmp_path / "out", "training.max_steps=5", "evaluation.every=3")
    assert [line["step"] for line in history(tmp_path / "out") if "eval_loss" in line] == [3, 5]


def test_a_frozen_encoder_does_not_change(folder, tmp_path):
    finetune(folder, tmp_path / "out", "training.max_steps=2", "training.train_top_layers=0")
    before, after = weights(folder / "model"), weights(tmp_path / "out" / "seed-0" / "model")
    encoder = [name for name in after if name.startswith("bert.") and ".pooler." not in name]
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["bert.pooler.dense.weight"], after["bert.pooler.dense.weight"])


def test_the_first_step_of_adam_shows_the_rate_of_each_layer(folder, tmp_path):
    """Its largest change of a tensor is the learning rate, wherever a gradient is far above Adam's epsilon."""
    keys = ["training.max_steps=1", "training.layer_decay=0.5", "training.warmup_ratio=0", "training.weight_decay=0"]
    finetune(folder, tmp_path / "out", *keys, "training.lr_schedule=constant", "training.learning_rate=1e-3")
    before, after = weights(folder / "model"), weights(tmp_path / "out" / "seed-0" / "model")
    names = {
        "bert.pooler.dense.weight": 1,
        "bert.encoder.layer.1.output.dense.weight": 0.5,
        "bert.encoder.layer.0.output.dense.weight": 0.25,
        "bert.embeddings.token_type_embeddings.weight": 0.125,
    }
    for name, share in names.items():
        assert (after[name] - before[name]).abs().max().item() == pytest.approx(1e-3 * share, rel=0.02)


@pytest.mark.parametrize(
    ("keys", "metric"),
    [
        (["task.kind=binary", "task.class_weights=balanced", "task.positive_label=negative"], "f1"),
        (["task.class_weights=given", "task.label_weights={positive: 5}", "precision=bf16"], "macro_f1"),
        (["tracking=tensorboard", "training.lr_schedule=cosine"], "mcc"),
    ],
)
def test_settings_run_and_choose_by_the_metric_that_is_asked_for(folder, tmp_path, keys, metric):
    results = finetune(folder, tmp_path / "out", "training.epochs=8", f"evaluation.metric={metric}", *keys)
    assert results["metric"] == metric
    assert results["mean"]["eval"][metric] >= 0.9
    events = list((tmp_path / "out").rglob("events.out.tfevents.*"))
    assert bool(events) == ("tracking=tensorboard" in keys)


def test_several_labels_and_numbers_are_learned(folder, tmp_path):
    several = [(f"the {good} {bad} ship", "kindness|cruelty") for good in GOOD for bad in BAD]
    several += [(f"the {good} ship", "kindness") for good in GOOD] + [(f"the {bad} ship", "cruelty") for bad in BAD]
    words = [(good, bad, count) for count in range(5) for good in GOOD for bad in BAD[:2]]
    numbers = [(f"{good} " * count + f"{bad} " * (4 - count), count) for good, bad, count in words]
    for kind, rows, metric in (("multi_label", several, "micro_f1"), ("regression", numbers, "pearson")):
        path = write_csv(tmp_path / f"{kind}.csv", rows)
        keys = [f"train_file={path}", f"eval_file={path}", f"task.kind={kind}"]
        results = finetune(folder, tmp_path / kind, *keys, "training.max_steps=80", "evaluation.every=20")
        assert results["metric"] == metric
        assert results["mean"]["eval"][metric] > 0.9
