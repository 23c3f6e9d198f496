"""A run directory of pretrain -> model directories of its checkpoints, and of their architecture with random weights.

The trainer is another package, which this one does not import: checkpoints are found by the names of their folders,
and exported by the command.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from conf.compose import quoted
from finetune.model_directory import COMPLETE_FILE, WEIGHT_FILES

_TAG = re.compile(r"step-(\d{8,})")


def find_checkpoints(run_dir: Path, steps: list[int] | None) -> dict[int, str]:
    """Return the tags of complete checkpoints by step, in order: of `steps`, or of all (None).

    Raises ValueError naming those that there are.
    """
    folder = run_dir / "checkpoints"
    if not folder.is_dir():
        raise ValueError(f"run_dir={run_dir} has no checkpoints/: it is not a run directory of pretrain")
    complete = (path.name for path in folder.iterdir() if (path / COMPLETE_FILE).is_file())
    tags = {int(match[1]): match[0] for match in map(_TAG.fullmatch, complete) if match}
    for step in tags if steps is None else steps:
        if step not in tags:
            known = ", ".join(map(str, sorted(tags))) or "none"
            raise ValueError(f"steps names {step}, of which {folder} has no complete checkpoint; it has {known}")
    if not tags:
        raise ValueError(f"run_dir={run_dir} has no complete checkpoint yet")
    return {step: tags[step] for step in sorted(tags if steps is None else set(steps))}


def export_checkpoint(run_dir: Path, tag: str, directory: Path) -> None:
    """Export a checkpoint unless that is done. Raises ValueError with what the command says when it fails."""
    if directory.is_dir():
        return
    arguments = [f"{key}={quoted(value)}" for key, value in (("run_dir", run_dir), ("output_dir", directory))]
    command = [sys.executable, "-m", "pretrain.export", *arguments, f"tag={tag}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}"
        raise ValueError(f"{run_dir} cannot be exported at {tag}: {reason}")
    print(done.stdout.strip(), flush=True)


def write_random_weights(like: Path, directory: Path, seed: int) -> None:
    """Write a model directory with the config and tokenizer of another and weights as before any training.

    Does nothing where that is done.
    """
    if directory.is_dir():
        return
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(like, temporary, ignore=shutil.ignore_patterns(*WEIGHT_FILES, "*.md"))
        torch.manual_seed(seed)
        AutoModel.from_config(AutoConfig.from_pretrained(like)).save_pretrained(temporary)
        temporary.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
