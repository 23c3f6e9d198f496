"""A file that appears whole or not at all. The standard library only: the trainer writes its files this way too."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.\d+\.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file beside `path` for writing; when the block ends well, sync it and rename it to `path`.

    When it does not, nothing is left behind (a killed process leaves its hidden file). An OSError, such as a full disk,
    is raised anew with the file's name.
    """
    # The process id: a worker that outlives its killed parent and the rerun's worker must not share a file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)  # else a power cut may forget the rename though the bytes are safe
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: whole or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def remove_unfinished(folder: Path, names: Sequence[str] | None = None) -> None:
    """Remove what killed processes left of `atomic_file`s in `folder`: of the files `names`, or of all."""
    for path in folder.glob(".*.tmp"):
        unfinished = _UNFINISHED.fullmatch(path.name)
        if unfinished and (names is None or unfinished["name"] in names):
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
