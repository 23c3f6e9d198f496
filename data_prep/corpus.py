"""Paths of the config -> the corpus files, sorted, with their sizes. Listing happens once, in the parent process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

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
    """Return the files that each source's `paths` name, sorted by path, none below the local folders `exclude`.

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
    return [found[path] for path in sorted(found)]


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
            return _describe(filesystem, [filesystem.info(name)])
        if filesystem.isdir(name):
            return _list_folder(filesystem, name, corpus_format)
        if not has_magic(name):
            raise ValueError("it does not exist")
        infos = filesystem.glob(name, detail=True).values()
    except Exception as error:  # a remote file system raises whatever its network library does
        kind = "" if isinstance(error, ImportError | OSError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"corpus.paths: cannot list {path!r}: {kind}{error}") from error
    files = _describe(filesystem, (info for info in infos if info["type"] != "directory"))
    for folder in (info for info in infos if info["type"] == "directory"):
        files += _list_folder(filesystem, folder["name"], corpus_format)
    return files


def _list_folder(filesystem: Any, folder: str, corpus_format: CorpusFormat) -> list[CorpusFile]:
    infos = filesystem.find(folder, detail=True)
    visible = [name for name in infos if not any(part.startswith(".") for part in _parts_below(name, folder))]
    wanted = [infos[name] for name in visible if _is_wanted(name, corpus_format)]
    if visible and not wanted:
        kind = " or ".join(_SUFFIXES[corpus_format]) or "suffixless"
        raise ValueError(
            f"corpus.paths: the folder {folder} has no {kind} file, but others "
            f"such as {PurePosixPath(visible[0]).name}; name them by a glob such as {folder}/* to take them"
        )
    return _describe(filesystem, wanted)


def _is_wanted(name: str, corpus_format: CorpusFormat) -> bool:
    is_cache = corpus_format is CorpusFormat.arrow and PurePosixPath(name).name.startswith(_CACHE)
    return plain_suffix(name) in _SUFFIXES[corpus_format] and not is_cache


def _parts_below(name: str, folder: str) -> tuple[str, ...]:
    return PurePosixPath(name.removeprefix(folder.rstrip("/"))).parts


def _describe(filesystem: Any, infos: Iterable[dict[str, Any]]) -> list[CorpusFile]:
    local = "file" in filesystem.protocol
    return [
        CorpusFile(
            path=info["name"] if local else filesystem.unstrip_protocol(info["name"]),
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
