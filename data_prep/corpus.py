"""Paths of the config -> the corpus files, sorted, with their sizes. Listing happens once, in the parent process."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path, PurePosixPath
from stat import S_ISDIR
from typing import Any

import fsspec
from fsspec.utils import glob_translate

from data_prep.corpus_config import CorpusConfig, CorpusFormat

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

# What a folder contributes. A file or glob named in the config is taken whatever its suffix.
_SUFFIXES = {
    CorpusFormat.text: (".txt",),
    CorpusFormat.text_blank_lines: (".txt",),
    CorpusFormat.jsonl: (".jsonl", ".ndjson", ".json"),
    CorpusFormat.csv: (".csv", ".tsv"),
    CorpusFormat.wikiextractor: ("",),
    CorpusFormat.parquet: (".parquet",),
    CorpusFormat.arrow: (".arrow",),
    CorpusFormat.warc: (".warc", ".wet"),
}

# What `datasets` leaves beside a saved data set: results of its own functions.
_CACHE = "cache-"

# What fsspec's file systems call a content's time or hash, hashes first; local files have mtime.
_VERSIONS = ("blob_id", "ETag", "etag", "mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """One file of the corpus; `version` changes when its content does (modification time or ETag)."""

    path: str  # absolute, or a URL
    size: int  # bytes, as it lies there (compressed or not)
    version: str
    source: int = 0  # which of `corpus.sources`, by number


def list_files(config: CorpusConfig, exclude: Sequence[Path]) -> list[CorpusFile]:
    """Return the files that each source's `paths` name, by source and path, none below the local folders `exclude`.

    Of a document that is in several files the first in this order counts.

    A folder gives its files with a suffix of the format, hidden ones left out. Raises ValueError for a path that
    does not exist, matches nothing or only files in `exclude`, for a file of two sources and a corpus of zero bytes.
    """
    found: dict[str, CorpusFile] = {}
    for number, source in enumerate(config.each_source()):
        files = _list_source(source, exclude, number)
        twice = next((file for file in files if file.path in found), None)
        if twice:
            names = [config.sources[one].name for one in (found[twice.path].source, number)]
            raise ValueError(f"corpus.sources: {twice.path} belongs to {' and to '.join(names)}; take it out of one")
        found |= {file.path: file for file in files}
    if not sum(file.size for file in found.values()):
        raise ValueError(f"corpus.paths: all {len(found)} files are empty, the first is {min(found)}")
    return sorted(found.values(), key=lambda file: (file.source, file.path))


def _list_source(config: CorpusConfig, exclude: Sequence[Path], number: int) -> list[CorpusFile]:
    excluded = [folder.resolve() for folder in exclude]
    found: dict[str, CorpusFile] = {}
    for path in config.paths:
        named = _match(path, config.format)
        if not named:
            raise ValueError(f"corpus.paths: no file matches {path!r}; check the path or the glob")
        matches = [file for file in named if not _is_below(file.path, excluded)]
        if not matches:
            raise ValueError(
                f"corpus.paths: all that {path!r} names lies where data_prep writes, in "
                f"{' or '.join(map(str, exclude))}; choose an output_dir and an "
                "executor.work_dir that do not contain the corpus"
            )
        found |= {file.path: replace(file, source=number) for file in matches}
    return list(found.values())


def compression_of(path: str) -> str | None:
    """Return what pyarrow calls the compression that a path's suffix names, None for none."""
    return COMPRESSIONS.get(PurePosixPath(path.lower()).suffix)


def plain_suffix(path: str) -> str:
    """Return the suffix of a path in lower case, without the compression's: `.jsonl` of `a.jsonl.gz`."""
    name = PurePosixPath(path.lower())
    return (name.with_suffix("") if name.suffix in COMPRESSIONS else name).suffix


def _match(path: str, corpus_format: CorpusFormat) -> list[CorpusFile]:
    try:
        filesystem, name = fsspec.core.url_to_fs(path)
        if filesystem.isfile(name):
            return _describe(filesystem, [_local_info(name) if _is_local(filesystem) else filesystem.info(name)])
        if filesystem.isdir(name):
            return _list_folder(filesystem, name, corpus_format)
        if not has_magic(name):
            raise ValueError("it does not exist")
        infos = _glob(filesystem, name)
        files = _describe(filesystem, (info for info in infos if info["type"] != "directory"))
        for folder in (info for info in infos if info["type"] == "directory"):
            files += _list_folder(filesystem, folder["name"], corpus_format)
    except Exception as error:  # a remote file system raises whatever its network library does
        kind = "" if isinstance(error, ImportError | OSError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"corpus.paths: cannot list {path!r}: {kind}{error}") from error
    return _drop_other_names(files) if _is_local(filesystem) else files


def _list_folder(filesystem: Any, folder: str, corpus_format: CorpusFormat) -> list[CorpusFile]:
    local = _is_local(filesystem)
    infos = {} if local else filesystem.find(folder, detail=True)
    names = list(_walk(folder) if local else infos)
    visible = [name for name in names if not any(part.startswith(".") for part in _parts_below(name, folder))]
    matching = [name for name in visible if _is_wanted(name, corpus_format)]
    wanted = [_local_info(name) if local else infos[name] for name in matching]
    if visible and not wanted:
        kind = " or ".join(_SUFFIXES[corpus_format]) or "suffixless"
        raise ValueError(
            f"corpus.paths: the folder {folder} has no {kind} file, but others "
            f"such as {PurePosixPath(visible[0]).name}; name them by a glob such as {folder}/* to take them"
        )
    return _describe(filesystem, wanted)


def _is_local(filesystem: Any) -> bool:
    return "file" in filesystem.protocol


def _walk(folder: str) -> Iterator[str]:
    """Yield the files below a local folder and below the folders that links in it name, each real folder once."""
    seen: set[str] = set()
    for path, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (str(Path(path, name)) for name in files)


def _raise(error: OSError) -> None:
    raise error


def _glob(filesystem: Any, pattern: str) -> list[dict[str, Any]]:
    if not _is_local(filesystem):
        return list(filesystem.glob(pattern, detail=True).values())
    # fsspec's own goes into no folder that is a link, pathlib's into none for `**`.
    root = Path("/")
    base, stars, _ = pattern.partition("**")
    if not stars:
        return [_local_info(str(path)) for path in root.glob(pattern[1:])]
    start = base[1:].rpartition("/")[0]
    folders = root.glob(start) if start else [root]
    below = [str(path) for folder in folders if folder.is_dir() for path in _all_below(folder)]
    return [_local_info(name) for name in filter(re.compile(glob_translate(pattern)).match, below)]


def _all_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield all that is below a local folder, links followed but for those back to a folder that holds them."""
    real = folder.resolve()
    if real in above:
        return
    for path in folder.iterdir():
        yield path
        if path.is_dir():
            yield from _all_below(path, (*above, real))


def _local_info(name: str) -> dict[str, Any]:
    """Return what fsspec's `info` says of a file, of a link's target rather than the link."""
    found = Path(name).stat()
    kind = "directory" if S_ISDIR(found.st_mode) else "file"
    return {"name": name, "type": kind, "size": found.st_size, "mtime": found.st_mtime}


def _drop_other_names(files: list[CorpusFile]) -> list[CorpusFile]:
    """Return the local files without those that lie in the same folder under another path, by way of a link."""
    found: dict[tuple[str, str], CorpusFile] = {}
    for file in sorted(files, key=lambda file: (len(file.path), file.path)):
        folder, name = os.path.split(file.path)
        found.setdefault((os.path.realpath(folder), name), file)
    return list(found.values())


def _is_wanted(name: str, corpus_format: CorpusFormat) -> bool:
    is_cache = corpus_format is CorpusFormat.arrow and PurePosixPath(name).name.startswith(_CACHE)
    return plain_suffix(name) in _SUFFIXES[corpus_format] and not is_cache


def _parts_below(name: str, folder: str) -> tuple[str, ...]:
    return PurePosixPath(name.removeprefix(folder.rstrip("/"))).parts


def _describe(filesystem: Any, infos: Iterable[dict[str, Any]]) -> list[CorpusFile]:
    return [
        CorpusFile(
            path=info["name"] if _is_local(filesystem) else filesystem.unstrip_protocol(info["name"]),
            size=int(info.get("size") or 0),
            version=str(next((info[key] for key in _VERSIONS if info.get(key)), "")),
        )
        for info in infos
    ]


def _is_below(path: str, folders: Sequence[Path]) -> bool:
    if "://" in path:
        return False
    resolved = Path(path).resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)
