"""Fine-tuning on several ranks, under DeepSpeed, and with W&B: real processes, minutes on two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finetuning import entity_sentences, write_conll, write_model

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_mistake_is_said_once_by_several_ranks(folder, tmp_path):
    result = run(folder, tmp_path / "out", "max_length=99", "training.micro_batch_size=4", ranks=True)
    assert result.returncode != 0
    assert result.stderr.count("error: max_length=99 is not valid") == 1


def test_deepspeed_shards_the_optimizer(folder, tmp_path, alone):
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 1}} | dict.fromkeys(sizes, "auto")))
    keys = ["training.micro_batch_size=4", f"deepspeed={path}"]
    result = run(folder, tmp_path / "out", *keys, ranks=True, DS_ACCELERATOR="cpu")
    assert result.returncode == 0, result.stderr
    for ours, expected in zip(numbers(tmp_path / "out"), alone, strict=True):
        assert ours == pytest.approx(expected, rel=1e-4)


def test_wandb_has_a_run_for_each_seed(folder, tmp_path):
    keys = ["training.micro_batch_size=8", "seeds=[0,1]", "tracking=wandb"]
    result = run(folder, tmp_path / "out", *keys, ranks=False, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
