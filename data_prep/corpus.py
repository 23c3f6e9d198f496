"""Paths of the config -> the corpus files, sorted, with their sizes. Listing happens once, in the parent process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from data_prep.config import CorpusConfig, CorpusFormat

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

# What a folder contributes. A file or glob named in the config is taken whatever its suffix.
_SUFFIXES = {
    CorpusFormat.text: (".txt",),
    CorpusFormat.text_blank_lines: (".txt",),
    CorpusFormat.jsonl: (".jsonl", ".ndjson", ".json"),
    CorpusFormat.parquet: (".parquet",),
}


# What fsspec's file systems call a content's time or hash, hashes first; local files have mtime.
_VERSIONS = ("mtime", "ETag", "etag", "LastModified", "Last-Modified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """One file of the corpus; `version` changes when its content does (modification time or ETag)."""

    path: str  # absolute, or a URL
    size: int  # bytes, as it lies there (compressed or not)
    version: str


def list_files(config: CorpusConfig, exclude: Sequence[Path]) -> list[CorpusFile]:
    """Return the files that `config.paths` name, sorted by path, each once, none below the local folders `exclude`.

    A folder gives its files with a suffix of the format, hidden ones left out. Raises ValueError for a path that
    does not exist, matches nothing or only files in `exclude`, and for a corpus of zero bytes.
    """
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
        found |= {file.path: file for file in matches}
    files = [found[path] for path in sorted(found)]
    if not sum(file.size for file in files):
        raise ValueError(f"corpus.paths: all {len(files)} files are empty, the first is {files[0].path}")
    return files


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
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"corpus.paths: cannot list {path!r}: {error}") from error
    files = _describe(filesystem, (info for info in infos if info["type"] != "directory"))
    for folder in (info for info in infos if info["type"] == "directory"):
        files += _list_folder(filesystem, folder["name"], corpus_format)
    return files


def _list_folder(filesystem: Any, folder: str, corpus_format: CorpusFormat) -> list[CorpusFile]:
    infos = filesystem.find(folder, detail=True)
    visible = [name for name in infos if not any(part.startswith(".") for part in _parts_below(name, folder))]
    wanted = [infos[name] for name in visible if plain_suffix(name) in _SUFFIXES[corpus_format]]
    if visible and not wanted:
        raise ValueError(
            f"corpus.paths: the folder {folder} has no {' or '.join(_SUFFIXES[corpus_format])} file, but others "
            f"such as {PurePosixPath(visible[0]).name}; name them by a glob such as {folder}/* to take them"
        )
    return _describe(filesystem, wanted)


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
