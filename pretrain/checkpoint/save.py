"""Save a checkpoint so that a kill at any moment leaves a usable one.

Ranks write into a hidden directory; when every file is on disk and checks out, rank 0 writes COMPLETE.json, renames
the directory to its tag and points `latest` at it. A tag without COMPLETE.json does not exist.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.atomic_file import sync, write_atomically
from pretrain.checkpoint.fragments_file import (
    StoredFile,
    fragments_to_write,
    parse_stored_file,
    write_fragments,
)
from pretrain.distributed import Ranks
from pretrain.engine import Engine
from pretrain.phases import RunState

COMPLETE_NAME = "COMPLETE.json"
CHECKPOINT_VERSION = 1


def tag_of(step: int) -> str:
    """Return the directory name of a checkpoint: step-00000500."""
    return f"step-{step:08d}"


def list_tags(directory: Path) -> list[str]:
    """Return the complete tags of a checkpoints directory, oldest first; empty when there is none."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.glob("step-*") if (path / COMPLETE_NAME).is_file())


def save_checkpoint(
    directory: Path, engine: Engine, state: RunState, ranks: Ranks, *, keep_last: int, run: dict[str, Any]
) -> Path:
    """Save weights, optimizer state and `state` under `directory`; return the tag's path. All ranks call it together.

    `run` is what a resume must match (config, fingerprints); it is stored as it is. Raises OSError on every rank when
    one of them cannot write; older checkpoints are untouched then.
    """
    target, hidden = directory / tag_of(state.step), directory / f".{tag_of(state.step)}.tmp"
    ranks.broadcast(lambda: _make_empty(hidden))
    share = fragments_to_write(engine.layout, rank=ranks.rank, world_size=ranks.world_size)
    ranks.together(lambda: write_fragments(hidden, ranks.rank, share, engine.optimizer))
    shapes = {name: list(shape) for name, shape in engine.layout.shapes.items()}
    ranks.broadcast(lambda: _complete(hidden, target, state, shapes, run, ranks.world_size, keep_last))
    return target


def _make_empty(directory: Path) -> None:
    """Make the hidden directory of a save, and remove what kills inside earlier saves and prunes left behind."""
    for left_over in directory.parent.glob(".step-*.tmp"):
        shutil.rmtree(left_over, ignore_errors=True)
    directory.mkdir(parents=True)


def _remove(tag: Path) -> None:
    """Remove a tag: first its name, so that a kill half way leaves no torn one."""
    doomed = tag.with_name(f".{tag.name}.old.tmp")
    tag.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _complete(
    hidden: Path,
    target: Path,
    state: RunState,
    shapes: dict[str, list[int]],
    run: dict[str, Any],
    world_size: int,
    keep_last: int,
) -> None:
    files = [_read_sidecar(hidden / f"rank-{rank:05d}.json") for rank in range(world_size)]
    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "state": asdict(state),
        "shapes": shapes,
        "files": [asdict(file) for file in files],
        "run": run,
    }
    write_atomically(hidden / COMPLETE_NAME, json.dumps(content, indent=1).encode())
    # A tag of the same step is left over from a run that was rolled back to an older one: the new one replaces it.
    if target.exists():
        _remove(target)
    hidden.rename(target)
    sync(target.parent)
    write_atomically(target.parent / "latest", f"{target.name}\n".encode())
    for tag in list_tags(target.parent)[:-keep_last]:
        if tag != target.name:
            _remove(target.parent / tag)


def _read_sidecar(path: Path) -> StoredFile:
    """Return a rank's own account of its file, after a look at the file. Raises OSError when they disagree."""
    file = parse_stored_file(json.loads(path.read_text(encoding="utf-8")))
    size = path.with_name(file.name).stat().st_size
    if size != file.bytes:
        raise OSError(f"{path.with_name(file.name)} has {size} bytes, its writer says {file.bytes}: disk trouble")
    return file
