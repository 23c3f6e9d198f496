"""Find the newest sound checkpoint and load it into any layout: other ranks, another ZeRO stage, another precision."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.checkpoint.fragments_file import MOMENTS, FragmentReader, StoredFile, hash_file, parse_stored_file
from pretrain.checkpoint.save import CHECKPOINT_VERSION, COMPLETE_NAME, list_tags, newest_tag
from pretrain.distributed import PlannedRanks, Ranks
from pretrain.engine import Engine
from pretrain.phases import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What COMPLETE.json of a tag says."""

    directory: Path
    state: RunState
    shapes: dict[str, list[int]]
    files: list[StoredFile]
    loss_scaler: dict[str, float]  # of fp16 runs
    run: dict[str, Any]  # what the run was: config and fingerprints


def read_checkpoint(directory: Path) -> Checkpoint:
    """Return a tag's account of itself; no tensor is read. Raises ValueError when it is none of this release."""
    path = directory / COMPLETE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["checkpoint_version"] != CHECKPOINT_VERSION:
            raise ValueError(f"version {content['checkpoint_version']}, this release reads {CHECKPOINT_VERSION}")
        return Checkpoint(
            directory=directory,
            state=RunState(**content["state"]),
            shapes=content["shapes"],
            files=[parse_stored_file(file) for file in content["files"]],
            loss_scaler=content.get("loss_scaler", {}),  # older checkpoints have none
            run=content["run"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a complete checkpoint of this release: {error}") from error


def newest_checkpoint(run_dir: Path) -> Path:
    """Return the newest complete tag of a run. Raises ValueError when there is none."""
    tag = newest_tag(run_dir / "checkpoints")
    if tag is None:
        raise ValueError(f"{run_dir}/checkpoints has no complete checkpoint; train first, or name another run_dir")
    return run_dir / "checkpoints" / tag


def find_checkpoint(directory: Path, ranks: Ranks | PlannedRanks, *, hash_files: bool = True) -> Checkpoint | None:
    """Return the newest checkpoint whose files all check out, the same on every rank; None when there is no tag.

    Each file is hashed once, by one rank, or only its size is looked at. A damaged checkpoint is named on stderr and
    the one before it is taken.
    Raises ValueError when there are tags and none is sound: starting afresh would hide the loss.
    """
    tags = ranks.broadcast(lambda: list_tags(directory))
    for tag in reversed(tags):
        try:
            checkpoint = ranks.broadcast(lambda tag=tag: read_checkpoint(directory / tag))  # type: ignore[misc]
            require_sound = partial(_require_sound, directory / tag, ranks.share(checkpoint.files), hash_files)
            ranks.together(require_sound)
        except (ValueError, OSError) as error:
            if ranks.is_first:
                print(f"warning: {error}; trying the checkpoint before it", file=sys.stderr)
        else:
            return checkpoint
    if tags:
        ranks.together(lambda: _refuse_all(directory, len(tags)))
    return None


def _refuse_all(directory: Path, count: int) -> None:
    raise ValueError(
        f"none of the {count} checkpoints in {directory} is sound (see above); restore one from a backup, "
        "or name another run_dir to start afresh"
    )


def _require_sound(directory: Path, files: Sequence[StoredFile], hash_files: bool = True) -> None:
    for file in files:
        path = directory / file.name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if path.stat().st_size != file.bytes or (hash_files and hash_file(path) != file.sha256):
            raise ValueError(f"{path} is damaged: its size or sha256 is not what was written")


def restore(engine: Engine, checkpoint: Checkpoint) -> None:
    """Load weights, optimizer state and loss scale. Each rank reads the ranges that overlap its fragments only.

    `engine.refresh_weights()`, on all ranks, must follow. Raises ValueError when the checkpoint is of another model.
    """
    shapes = {name: list(shape) for name, shape in engine.layout.shapes.items()}
    if shapes != checkpoint.shapes:
        different = sorted(
            name for name in shapes | checkpoint.shapes if shapes.get(name) != checkpoint.shapes.get(name)
        )
        name = different[0]
        raise ValueError(
            f"{checkpoint.directory} is of another model: {name} is {checkpoint.shapes.get(name)} there and "
            f"{shapes.get(name)} here ({len(different)} parameters differ); name another run_dir"
        )
    reader = FragmentReader(checkpoint.directory, checkpoint.files)
    with torch.no_grad():
        for fragment in engine.layout.fragments:
            state = engine.optimizer.state[fragment.flat]
            if not state:
                state["step"] = torch.tensor(float(reader.updates(fragment.name)))
                state |= {kind: torch.zeros_like(fragment.flat) for kind in MOMENTS}
            # A parameter that no step has touched yet was stored without moments: they are the zeros made above.
            moments = MOMENTS if reader.updates(fragment.name) else ()
            for kind, tensor in (("fp32", fragment.flat), *((kind, state[kind]) for kind in moments)):
                reader.read_into(fragment.cut(tensor), name=fragment.name, kind=kind, start=fragment.start)
    engine.load_loss_scaler(checkpoint.loss_scaler)


def load_full_weights(directory: Path) -> dict[str, Tensor]:
    """Return every parameter of a tag, fp32 and whole, on the CPU: for export, one process."""
    checkpoint = read_checkpoint(directory)
    _require_sound(directory, checkpoint.files)
    reader = FragmentReader(directory, checkpoint.files)
    weights = {}
    for name, shape in checkpoint.shapes.items():
        flat = torch.empty(torch.Size(shape).numel(), dtype=torch.float32)
        reader.read_into(flat, name=name, kind="fp32", start=0)
        weights[name] = flat.view(shape)
    return weights
