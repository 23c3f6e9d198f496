"""Where the files of a shard directory lie: any fsspec URL, read by range, or a `pipe:` command, through a cache."""

import os
import tempfile
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import fsspec

PIPE = "pipe:"


class Storage(Protocol):
    """Read access to the files of one directory, by name. A missing file is a FileNotFoundError."""

    def read(self, name: str) -> bytes:
        """Return a whole file."""

    def read_fresh(self, name: str) -> bytes:
        """Return a whole file as it is now, whatever was kept of it."""

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer at the end of the file."""


class FsspecStorage:
    """A folder on the local disk or behind any fsspec URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def _place(self) -> tuple[Any, str]:
        try:
            filesystem, root = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"shards_dir={self._url}: {error}") from error
        return filesystem, root

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        filesystem, root = self._place
        data: bytes = filesystem.cat_file(f"{root}/{name}")
        return data

    read_fresh = read

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return a stretch of a file by one range request."""
        filesystem, root = self._place
        data: bytes = filesystem.cat_file(f"{root}/{name}", start=start, end=start + length)
        return data

    def size(self, name: str) -> int:
        """Ask the file system for a file's size."""
        filesystem, root = self._place
        return int(filesystem.size(f"{root}/{name}"))


class PipeStorage:
    """Files that a shell command prints: `pipe:aws s3 cp s3://bucket/shards/{} -`, where `{}` becomes the file's name.

    WebDataset runs the command and keeps whole files in a cache folder (`WDS_CACHE`, else one per user in the
    temporary directory), since its pipes cannot seek. A shard is fetched when it is first read and stays there: the
    folder grows to what this host reads. The manifest is fetched anew each time, and names the files of one data_prep
    run, so `prefix` (its fingerprint) keeps runs apart.
    """

    prefix = ""

    def __init__(self, url: str) -> None:
        if "{}" not in url:
            raise ValueError(f"shards_dir={url!r} is not valid: a pipe: command needs {{}} where the file name goes")
        self._url = url

    @cached_property
    def _cache(self) -> Any:
        from webdataset.cache import FileCache

        folder = os.environ.get("WDS_CACHE") or str(Path(tempfile.gettempdir()) / f"lambert-shards-{os.getuid()}")
        return FileCache(folder, url_to_name=self._cache_name, validator=None)

    def _cache_name(self, url: str) -> str:
        return sha256(f"{self.prefix} {url}".encode()).hexdigest()

    def _fetch(self, name: str) -> Path:
        # FileCache takes a temporary name per process and renames: ranks of a host can share the folder.
        try:
            return Path(self._cache.get_file(self._url.replace("{}", name)))
        except OSError as error:
            raise OSError(f"{self._url.replace('{}', name)} failed: {error}") from error

    def read_fresh(self, name: str) -> bytes:
        """Return what the command prints now, past the cache."""
        from webdataset.gopen import gopen

        try:
            with gopen(self._url.replace("{}", name)) as stream:
                data: bytes = stream.read()
        except OSError as error:
            raise OSError(f"{self._url.replace('{}', name)} failed: {error}") from error
        return data

    def read(self, name: str) -> bytes:
        """Return a whole file, from the cache if it is there."""
        return self._fetch(name).read_bytes()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return a stretch of a cached file."""
        with self._fetch(name).open("rb") as file:
            file.seek(start)
            return file.read(length)


def open_storage(url: str) -> Storage:
    """Return the storage behind `shards_dir`. Nothing is read yet. Raises ValueError for a pipe without a place."""
    return PipeStorage(url) if url.startswith(PIPE) else FsspecStorage(url)
