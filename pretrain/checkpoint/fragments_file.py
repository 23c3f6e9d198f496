"""One file per rank: the fragments of fp32 weights and optimizer state that it holds, readable by range.

`rank-00003.safetensors` has, per fragment, three flat fp32 tensors named `PARAMETER/fp32`, `PARAMETER/exp_avg` and
`PARAMETER/exp_avg_sq`. Beside it, `rank-00003.json` says which stretch of which parameter they are, how many updates
they have seen (none: no moments are stored), and the file's size and sha256. Any other layout finds what it needs by
these tables alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_prep.atomic_file import sync, write_atomically

MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = ("fp32", *MOMENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFragment:
    """A stretch of a parameter in a file, in elements, and the number of updates its moments have seen."""

    name: str
    start: int
    numel: int
    updates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One rank's file: name, size in bytes, sha256 and what it holds."""

    name: str
    bytes: int
    sha256: str
    fragments: list[StoredFragment]


def stored_file_values(file: StoredFile) -> dict[str, object]:
    """Return a StoredFile as JSON can hold it; a fragment is a list of four: a checkpoint has parameters x ranks."""
    fragments = [[item.name, item.start, item.numel, item.updates] for item in file.fragments]
    return {"name": file.name, "bytes": file.bytes, "sha256": file.sha256, "fragments": fragments}


def parse_stored_file(values: dict[str, object]) -> StoredFile:
    """Return what `stored_file_values` was given. Raises TypeError, ValueError or KeyError for anything else."""
    fragments = values["fragments"]
    if not isinstance(fragments, list):
        raise TypeError("fragments is not a list")
    parsed = [StoredFragment(name=n, start=start, numel=numel, updates=seen) for n, start, numel, seen in fragments]
    return StoredFile(**{**values, "fragments": parsed})  # type: ignore[arg-type]


def write_fragments(
    directory: Path, rank: int, fragments: Sequence[StoredFragment], tensors: dict[str, Tensor]
) -> StoredFile:
    """Write one rank's file and its sidecar, both synced to disk. Raises OSError (a full disk, say).

    Other threads go on meanwhile: safetensors, from 0.8 on, and hashlib let go of the interpreter lock.
    """
    path = directory / f"rank-{rank:05d}.safetensors"
    try:
        save_file(tensors, path, metadata={"format": "lambert-fragments-1"})
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    path.chmod(directory.stat().st_mode & 0o666)  # safetensors leaves its files to their owner alone
    sync(path)
    file = StoredFile(name=path.name, bytes=path.stat().st_size, sha256=hash_file(path), fragments=list(fragments))
    write_atomically(path.with_suffix(".json"), json.dumps(stored_file_values(file)).encode())
    return file


class FragmentReader:
    """Reads stretches of parameters out of the files of a checkpoint, whatever layout wrote them."""

    def __init__(self, directory: Path, files: Sequence[StoredFile]):
        self._directory = directory
        self._open = cache(lambda name: safe_open(directory / name, framework="pt"))  # parses a header of all tensors
        self._places: dict[str, list[tuple[StoredFragment, str]]] = {}
        for file in files:
            for fragment in file.fragments:
                self._places.setdefault(fragment.name, []).append((fragment, file.name))

    def updates(self, name: str) -> int:
        """Return how many updates the moments of a parameter have seen."""
        return self._places[name][0][0].updates

    def read_into(self, target: Tensor, *, name: str, kind: str, start: int) -> None:
        """Fill `target`, fp32 [numel], with elements from `start` on of a parameter. Raises ValueError on a gap."""
        filled, stop = 0, start + target.numel()
        for fragment, file_name in self._places.get(name, []):
            low, high = max(start, fragment.start), min(stop, fragment.start + fragment.numel)
            if low < high:
                tensor = self._open(file_name).get_slice(f"{name}/{kind}")
                stored = tensor[low - fragment.start : high - fragment.start]
                target[low - start : high - start].copy_(stored)
                filled += high - low
        if filled != target.numel():
            raise ValueError(f"{self._directory} holds {filled} of {target.numel()} elements of {name} from {start} on")


def hash_file(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
