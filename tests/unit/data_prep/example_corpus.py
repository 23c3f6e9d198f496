"""Corpus files and configs for tests of reading."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import fsspec

from data_prep.corpus_config import CorpusConfig, CorpusFormat, OnError
from data_prep.corpus_parts import CorpusPart
from data_prep.reading.readers import read_texts
from data_prep.reading.unreadable import Unreadable, raise_unreadable
from tests.unit.data_prep.example_shards import data_prep_config

SKIP = OnError["skip"]


@cache
def default_corpus_config() -> CorpusConfig:
    return data_prep_config().corpus


def corpus_config(corpus_format: CorpusFormat, paths: list[str] | None = None, **changes: Any) -> CorpusConfig:
    """Return the default corpus config with a format, paths, and what else a test wants."""
    return replace(default_corpus_config(), format=corpus_format, paths=paths or ["unused"], **changes)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path | str, corpus_format: CorpusFormat, **changes: Any) -> list[tuple[int, str]]:
    """Return (line, text) for all documents of a file; raise for the first that cannot be read."""
    part = CorpusPart(path=str(path), size=0)
    with fsspec.open(part.path, "rb") as file:
        return list(read_texts(file, part, corpus_config(corpus_format, **changes), raise_unreadable))


def read_what_can_be(
    path: Path | str, corpus_format: CorpusFormat, part: CorpusPart | None = None, **changes: Any
) -> tuple[list[str], list[str]]:
    """Return the texts that can be read, and for the others the place without its folder, and the reason."""
    part = part or CorpusPart(path=str(path), size=0)
    skipped: list[str] = []

    def note(place: str, found: Unreadable) -> None:
        skipped.append(f"{place.rpartition('/')[2]}: {found.reason}")

    with fsspec.open(part.path, "rb") as file:
        texts = [text for _, text in read_texts(file, part, corpus_config(corpus_format, **changes), note)]
    return texts, skipped
