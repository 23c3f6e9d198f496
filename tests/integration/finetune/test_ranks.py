"""Fine-tuning on several ranks, under DeepSpeed, and with W&B: real processes, minutes on two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForTokenClassification

from finetune.reading.faults import Faults
from finetune.tasks.build import read_task
from tests.finetuning import (
    entity_sentences,
    outputs_of,
    sentiment_rows,
    tokenizer,
    write_conll,
    write_csv,
    write_model,
    write_questions,
)

ROOT = Path(__file__).resolve().parents[3]
KEYS = ["training.global_batch_size=8", "training.learning_rate=3e-3", "training.max_steps=10", "evaluation.every=5"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--rdzv-backend=c10d"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_model(folder / "model")
    for split, count in (("train", 32), ("eval", 9)):
        write_conll(folder / f"{split}.conll", entity_sentences(count))
    return folder


def run(
    folder: Path, output_dir: Path, *keys: str, ranks: bool, **environment: str
) -> subprocess.CompletedProcess[str]:
    files = [f"{split}_file={folder / split}.conll" for split in ("train", "eval")]
    command = [sys.executable, *(TORCHRUN if ranks else []), "-m", "finetune", "task=tagging", *files]
    command += [f"model={folder / 'model'}", f"output_dir={output_dir}", *KEYS, *keys]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, check=False)


def numbers(output_dir: Path) -> list[dict[str, float]]:
    """Return what must not depend on the ranks. (The Trainer's `eval_loss` does, in the third digit.)"""
    lines = [json.loads(line) for line in (output_dir / "seed-0" / "history.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("loss", "grad_norm", "eval_f1") if name in line} for line in lines]


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[dict[str, float]]:
    """The numbers of one process."""
    result = run(folder, folder / "alone", "training.micro_batch_size=8", ranks=False)
    assert result.returncode == 0, result.stderr
    return numbers(folder / "alone")


def test_two_ranks_compute_what_one_does(folder, tmp_path, alone):
    result = run(folder, tmp_path / "out", "training.micro_batch_size=2", ranks=True)
    assert result.returncode == 0, result.stderr
    for ours, expected in zip(numbers(tmp_path / "out"), alone, strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)
    assert result.stdout.count("train: 32 examples") == 1


PARTIAL = {
    "classification": ("csv", []),
    "question_answering": ("json", ["task.window_overlap=4"]),
}


@pytest.mark.parametrize(
    ("task", "count"), [("classification", 18), ("question_answering", 22), ("classification", 26)]
)
def test_the_last_step_of_an_epoch_has_every_input_once_on_any_number_of_ranks(folder, tmp_path, task, count):
    """Of 18, 22 and 26 inputs the last step has 2, 6 and 10: in micro-batches of 4 ranks do not have the same number.

    accelerate fills them with inputs that the epoch began with.
    """
    suffix, keys = PARTIAL[task]
    if task == "classification":
        write_csv(tmp_path / f"train.{suffix}", [*sentiment_rows(count - 1), ("it", "positive")])
        write_csv(tmp_path / f"eval.{suffix}", sentiment_rows(8))
    else:
        write_questions(tmp_path / f"train.{suffix}", count // 2)
        write_questions(tmp_path / f"eval.{suffix}", 4)
    files = [f"{split}_file={tmp_path / split}.{suffix}" for split in ("train", "eval")]
    keys = [
        f"task={task}",
        *files,
        *keys,
        "training.global_batch_size=16",
        "training.max_steps=4",
        "evaluation.every=1",
    ]
    found = []
    for ranks, micro in ((False, 16), (True, 4)):
        output_dir = tmp_path / f"ranks-{ranks}"
        result = run(folder, output_dir, *keys, f"training.micro_batch_size={micro}", ranks=ranks)
        assert result.returncode == 0, result.stderr
        found.append([line for line in numbers(output_dir) if "grad_norm" in line])
    for one, several in zip(*found, strict=True):
        assert several == pytest.approx(one, rel=1e-4)


def test_a_mistake_is_said_once_by_several_ranks(folder, tmp_path):
    result = run(folder, tmp_path / "out", "max_length=99", "training.micro_batch_size=4", ranks=True)
    assert result.returncode != 0
    assert result.stderr.count("error: max_length=99 is not valid") == 1


@pytest.mark.parametrize("stage", [1, 2])
def test_deepspeed_shards_the_optimizer(folder, tmp_path, alone, stage):
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    keys = ["training.micro_batch_size=4", f"deepspeed={path}"]
    result = run(folder, tmp_path / "out", *keys, ranks=True, DS_ACCELERATOR="cpu")
    assert result.returncode == 0, result.stderr
    for ours, expected in zip(numbers(tmp_path / "out"), alone, strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)
    saved = saved_scores(folder, tmp_path / "out")
    recorded = json.loads((tmp_path / "out" / "results.json").read_text())["mean"]["eval"]
    assert saved == pytest.approx({name: recorded[name] for name in saved})


def saved_scores(folder: Path, output_dir: Path) -> dict[str, float]:
    """Return the scores on the eval file of the model that was written, as transformers loads it."""
    found = read_task(output_dir / "seed-0" / "model")
    model = AutoModelForTokenClassification.from_pretrained(output_dir / "seed-0" / "model")
    assert not model.training
    examples = found.task.read("eval_file", folder / "eval.conll", Faults(skip=False))
    encoded = found.task.encode(examples, tokenizer(), found.max_length, Faults(skip=False))
    return found.task.scores(outputs_of(model, found.task, encoded), encoded)


def test_wandb_has_a_run_for_each_seed(folder, tmp_path):
    keys = ["training.micro_batch_size=8", "seeds=[0,1]", "tracking=wandb"]
    result = run(folder, tmp_path / "out", *keys, ranks=False, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
