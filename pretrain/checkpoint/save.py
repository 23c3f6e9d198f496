"""Write a checkpoint so that a kill at any moment leaves a usable one.

Ranks write into a hidden directory; when every file is on disk and checks out, rank 0 writes COMPLETE.json, renames
the directory to its tag and points `latest` at it. A tag without COMPLETE.json does not exist.
"""

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.atomic_file import sync, write_atomically
from pretrain.checkpoint.fragments_file import (
    KINDS,
    StoredFile,
    parse_stored_file,
    stored_file_values,
    write_fragments,
)
from pretrain.checkpoint.snapshot import Snapshot
from pretrain.config import CheckpointConfig
from pretrain.distributed import Ranks

COMPLETE_NAME = "COMPLETE.json"
LATEST = "latest"
CHECKPOINT_VERSION = 2
BYTES_PER_ELEMENT = 4 * len(KINDS)  # fp32 all
BYTES_FOR_TABLES = 2**20  # of one rank: names and places of its fragments

_TAG = re.compile(r"step-\d{8,}")


def tag_of(step: int) -> str:
    """Return the directory name of a checkpoint: step-00000500."""
    return f"step-{step:08d}"


def step_of(tag: str) -> int:
    """Return the step of a tag."""
    return int(tag.removeprefix("step-"))


def list_tags(directory: Path) -> list[str]:
    """Return the complete tags of a checkpoints directory, oldest first; empty when there is none."""
    if not directory.is_dir():
        return []
    found = [path.name for path in directory.iterdir() if _TAG.fullmatch(path.name)]
    return sorted(tag for tag in found if (directory / tag / COMPLETE_NAME).is_file())


def tags_to_prune(tags: Sequence[str], *, keep_last: int, keep_every: int) -> list[str]:
    """Return those of `tags`, oldest first, that are neither among the last ones nor at a multiple of `keep_every`."""
    return [tag for tag in tags[:-keep_last] if keep_every == 0 or step_of(tag) % keep_every != 0]


def checkpoint_bytes(elements: int, world_size: int) -> int:
    """Return the most bytes that a checkpoint of a model of `elements` parameters takes."""
    return elements * BYTES_PER_ELEMENT + world_size * BYTES_FOR_TABLES


def newest_tag(directory: Path) -> str | None:
    """Return the tag that a run stands at, or None when it has none. `set_aside_after` keeps later ones out of it."""
    return next(reversed(list_tags(directory)), None)


def set_aside_after(directory: Path, step: int) -> None:
    """Rename the tags beyond `step` to discarded-TAG: a run goes on from an older one, because they are damaged.

    Should they come back (a file server that was away), two branches of a run must not mix. Nothing is deleted.
    """
    for tag in list_tags(directory):
        if step_of(tag) > step:
            discarded = directory / f"discarded-{tag}"
            if discarded.exists():
                shutil.rmtree(discarded)
            (directory / tag).rename(discarded)
    newest = newest_tag(directory)
    if newest is not None:
        write_atomically(directory / LATEST, f"{newest}\n".encode())


def write_checkpoint(
    directory: Path, snapshot: Snapshot, ranks: Ranks, config: CheckpointConfig, run: dict[str, Any]
) -> str | None:
    """Write a snapshot under `directory` and prune old tags. All ranks call it together.

    `run` is what a resume must match (config, fingerprints); it is stored as it is. When one rank cannot write, raises
    its OSError there and FailureElsewhereError on the others, and nothing is left of the attempt. Returns why old tags
    could not be pruned, if so: the new one is safe then.
    """
    tag = tag_of(snapshot.state.step)
    hidden = directory / f".{tag}.tmp"
    elements = sum(math.prod(shape) for shape in snapshot.shapes.values())
    needed = checkpoint_bytes(elements, ranks.world_size)
    try:
        ranks.broadcast(lambda: _make_room(hidden, needed))
        ranks.together(lambda: write_fragments(hidden, ranks.rank, snapshot.fragments, snapshot.tensors))
        ranks.broadcast(lambda: _complete(hidden, directory / tag, snapshot, run, ranks.world_size))
    except (OSError, ValueError):
        if ranks.is_first:
            shutil.rmtree(hidden, ignore_errors=True)
        raise
    return ranks.broadcast(lambda: _prune(directory, tag, config))


def _make_room(hidden: Path, needed: int) -> None:
    """Make the hidden directory of a save; remove what kills inside earlier saves and prunes left behind.

    Raises OSError when the disk has less than `needed` bytes, or the run directory is gone.
    """
    directory = hidden.parent
    directory.mkdir(exist_ok=True)
    for left_over in directory.glob(".step-*.tmp"):
        shutil.rmtree(left_over, ignore_errors=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(f"{directory} has {free / 1e9:,.3f} GB free, a checkpoint takes up to {needed / 1e9:,.3f} GB")
    hidden.mkdir()


def _remove(tag: Path) -> None:
    """Remove a tag: first its name, so that a kill half way leaves no torn one."""
    doomed = tag.with_name(f".{tag.name}.old.tmp")
    tag.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _complete(hidden: Path, target: Path, snapshot: Snapshot, run: dict[str, Any], world_size: int) -> None:
    files = [_read_sidecar(hidden / f"rank-{rank:05d}.json") for rank in range(world_size)]
    content = {
        "checkpoint_version": CHECKPOINT_VERSION,
        "state": asdict(snapshot.state),
        "loss_scaler": snapshot.loss_scaler,
        "shapes": snapshot.shapes,
        "files": [stored_file_values(file) for file in files],
        "run": run,
    }
    write_atomically(hidden / COMPLETE_NAME, json.dumps(content).encode())
    # A directory of that name that lost its COMPLETE.json is no tag: the new one replaces it.
    if target.exists():
        _remove(target)
    hidden.rename(target)
    sync(target.parent)


def _prune(directory: Path, newest: str, config: CheckpointConfig) -> str | None:
    """Point `latest` at the newest tag and remove old ones; return why it could not, if so."""
    try:
        write_atomically(directory / LATEST, f"{newest}\n".encode())
        for tag in tags_to_prune(list_tags(directory), keep_last=config.keep_last, keep_every=config.keep_every):
            _remove(directory / tag)
    except OSError as error:
        return str(error)
    return None


def _read_sidecar(path: Path) -> StoredFile:
    """Return a rank's own account of its file, after a look at the file. Raises OSError when they disagree."""
    file = parse_stored_file(json.loads(path.read_text(encoding="utf-8")))
    size = path.with_name(file.name).stat().st_size
    if size != file.bytes:
        raise OSError(f"{path.with_name(file.name)} has {size} bytes, its writer says {file.bytes}: disk trouble")
    return file
