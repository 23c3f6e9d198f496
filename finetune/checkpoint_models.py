"""A run directory of pretrain -> model directories of its checkpoints, and of their architecture with random weights.

The trainer is another package, which this one does not import: checkpoints are found by the names of their folders,
and exported by the command.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

from conf.compose import quoted
from finetune.model_directory import COMPLETE_FILE, WEIGHT_FILES
from finetune.origins import ORIGINS_FILE, hash_file, read_origins, write_origins

_REMEDY = "name another output_dir, or remove the one that is there"
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


def claim_models(run_dir: Path, tags: Iterable[str], models: Path) -> None:
    """Put on record in `models` which run and which checkpoints its models are exported from, before they are.

    Raises ValueError when there are models of another run, or of a checkpoint that has been written anew since.
    """
    run_id = _read_run_id(run_dir)
    now = {tag: hash_file(run_dir / "checkpoints" / tag / COMPLETE_FILE) for tag in tags}
    path, before = models / ORIGINS_FILE, {}
    if any(models.glob("[!.]*")):  # a killed call may leave a hidden file
        record = read_origins(path)
        before = record.get("checkpoints", {})
        if record.get("run_id") != run_id:
            raise ValueError(
                f"{models} has models of the run {record.get('run_id')} ({record.get('run_dir')}), "
                f"and run_dir={run_dir} is the run {run_id}; {_REMEDY}"
            )
        for tag, sha256 in now.items():
            if before.get(tag, sha256) != sha256:
                raise ValueError(
                    f"{models / tag} was exported when {COMPLETE_FILE} of {tag} had sha256 {before[tag][:12]}…, and "
                    f"now it has {sha256[:12]}… in run_dir={run_dir}: the checkpoint was written anew; {_REMEDY}"
                )
    models.mkdir(parents=True, exist_ok=True)
    write_origins(path, {"run_id": run_id, "run_dir": str(run_dir), "checkpoints": before | now})


def _read_run_id(run_dir: Path) -> str:
    path = run_dir / "run.json"
    try:
        run_id = json.loads(path.read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say which run it is ({error}); put back the one that pretrain wrote"
        ) from error
    return str(run_id)


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
