"""Tiny models that have learned a task each, for what comes after fine-tuning."""

from pathlib import Path

from finetune.__main__ import main
from tests.finetuning import (
    entity_sentences,
    sentiment_rows,
    write_conll,
    write_csv,
    write_model,
    write_questions,
)

FILES = {"classification": "csv", "tagging": "conll", "question_answering": "json"}
QUICK = ["training.learning_rate=3e-3", "training.global_batch_size=8", "training.micro_batch_size=8"]
SETTINGS = {
    "classification": ["training.epochs=6"],
    "tagging": ["training.epochs=3"],
    "question_answering": ["training.epochs=8", "task.window_overlap=4"],
}


def write_files(folder: Path) -> Path:
    """Write a model, and a training and an evaluation file of each task."""
    write_model(folder / "model")
    for split, count in (("train", 36), ("eval", 18)):
        write_csv(folder / f"{split}.csv", sentiment_rows(count))
        write_conll(folder / f"{split}.conll", entity_sentences(count))
        write_questions(folder / f"{split}.json", count // 2)
    return folder


def arguments(folder: Path, task: str) -> list[str]:
    """Return what every fine-tuning on these files needs but a model and an output_dir."""
    files = [f"{split}_file={folder / split}.{FILES[task]}" for split in ("train", "eval")]
    return [f"task={task}", *files, *QUICK, *SETTINGS[task]]


def finetuned(folder: Path, task: str) -> Path:
    """Fine-tune on the files of a folder, and return the model."""
    output_dir = folder / task
    assert main([*arguments(folder, task), f"model={folder / 'model'}", f"output_dir={output_dir}"]) == 0
    return output_dir / "seed-0" / "model"
