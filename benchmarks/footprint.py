"""What a process took from memory and from checkpoint files while something ran. Linux."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from safetensors import safe_open
from torch import Tensor

HEADER_LENGTH_BYTES = 8


@dataclass(slots=True)
class Footprint:
    """Bytes; `memory` is how far the resident memory rose above where it stood, mapped files included."""

    memory: int = 0
    read: int = 0


@contextmanager
def watch_memory() -> Iterator[Footprint]:
    """Yield a footprint whose `memory` is known on leaving: the kernel's own high-water mark, reset on entering."""
    footprint = Footprint()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM := VmRSS
    before = status_bytes("VmRSS")
    yield footprint
    footprint.memory = status_bytes("VmHWM") - before


@contextmanager
def watch_reads() -> Iterator[Footprint]:
    """Yield a footprint that adds up in `read` what FragmentReader takes: headers of files, slices of tensors."""
    footprint = Footprint()

    def counted_open(path: Path, **options: Any) -> _CountedFile:
        with path.open("rb") as file:
            footprint.read += HEADER_LENGTH_BYTES + int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        return _CountedFile(safe_open(path, **options), footprint)

    with patch("pretrain.checkpoint.fragments_file.safe_open", counted_open):
        yield footprint


class _CountedFile:
    """A safetensors file whose tensors are read by slices only, and counted."""

    def __init__(self, file: Any, footprint: Footprint) -> None:
        self._file, self._footprint = file, footprint

    def get_slice(self, name: str) -> "_CountedSlice":
        return _CountedSlice(self._file.get_slice(name), self._footprint)


class _CountedSlice:
    """A tensor in a file."""

    def __init__(self, stored: Any, footprint: Footprint) -> None:
        self._stored, self._footprint = stored, footprint

    def __getitem__(self, stretch: slice) -> Tensor:
        tensor: Tensor = self._stored[stretch]
        self._footprint.read += tensor.numel() * tensor.element_size()
        return tensor


def status_bytes(field: str) -> int:
    """Return a size of this process in bytes, by its name in /proc/self/status, such as VmHWM."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(kilobytes)
