"""Corpus files + sizes of the config -> tasks, buckets, range sizes. Pure functions, and the plan's file on disk."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import ceil
from pathlib import Path

from data_prep.atomic_file import atomic_file
from data_prep.buckets import (
    GOOD_RANGE_BYTES,
    MANY_RANGES,
    SCATTERED_BYTES_PER_TEXT_BYTE,
    Buckets,
    choose_buckets_per_group,
    divide_corpus,
)
from data_prep.corpus import CorpusFile, compression_of, plain_suffix
from data_prep.corpus_config import CorpusFormat
from data_prep.corpus_parts import CorpusPart, choose_task_bytes, cut_files, group_parts
from data_prep.manifest import HELD_OUT, TRAIN

PLAN_NAME = "plan.jsonl"

# Text bytes per byte on disk; English text gives 2.7 (gzip) to 3.5 (zstd -19). Rounded up: buckets stay small enough.
COMPRESSED_TEXT_RATIO = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the work is cut. Tasks change no byte of the shards; buckets do."""

    tasks: list[list[CorpusPart]]  # one scatter task each
    buckets: Buckets
    buckets_per_group: int  # 1: scatter sorts by bucket; else by group, and a pass between sorts each group by bucket
    corpus_bytes: int  # as the files lie there

    @property
    def num_files(self) -> int:
        """Corpus files in all tasks."""
        return len({part.path for parts in self.tasks for part in parts})

    @property
    def num_groups(self) -> int:
        """Groups of buckets, held-out buckets included."""
        return self.buckets.count_groups(self.buckets_per_group)

    @property
    def range_bytes(self) -> int:
        """Expected bytes of the range that a task of the next pass reads from one scatter file."""
        text_bytes = sum(text_bytes_of(part) for parts in self.tasks for part in parts)
        return int(text_bytes * SCATTERED_BYTES_PER_TEXT_BYTE / len(self.tasks) / self.num_groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTask:
    """One build task: a copy of one bucket; `bucket` counts inside its split."""

    split: str
    copy: int
    bucket: int


def make_plan(
    files: Sequence[CorpusFile],
    formats: Sequence[CorpusFormat],
    *,
    task_bytes: int | None,
    bucket_bytes: int | None,
    held_out_fraction: float,
) -> Plan:
    """Return the plan for a listed corpus: the tasks from `task_bytes`, the buckets from `bucket_bytes` of text.

    `formats` are those of the sources.
    """
    corpus_bytes = sum(file.size for file in files)
    text_bytes = sum(text_bytes_of(file) for file in files)
    per_task = choose_task_bytes(task_bytes, corpus_bytes)
    tasks = group_parts(cut_files(files, formats, per_task), per_task)
    buckets = divide_corpus(text_bytes, bucket_bytes=bucket_bytes, held_out_fraction=held_out_fraction)
    per_group = choose_buckets_per_group(text_bytes=text_bytes, num_tasks=len(tasks), num_buckets=buckets.total)
    return Plan(tasks=tasks, buckets=buckets, buckets_per_group=per_group, corpus_bytes=corpus_bytes)


def text_bytes_of(file: CorpusFile | CorpusPart) -> int:
    """Return the text bytes a file is reckoned to hold: its size, or more where it is compressed."""
    compressed = compression_of(file.path) or plain_suffix(file.path) == ".parquet"
    return file.size * (COMPRESSED_TEXT_RATIO if compressed else 1)


def num_build_tasks(buckets: Buckets, dupe_factor: int) -> int:
    """Return how many build tasks there are: every copy of every train bucket, and every held-out bucket once."""
    return buckets.train * dupe_factor + buckets.held_out


def build_task(rank: int, buckets: Buckets, dupe_factor: int) -> BuildTask:
    """Return build task `rank` of `num_build_tasks`, copy by copy, then the held-out split."""
    if rank >= buckets.train * dupe_factor:
        return BuildTask(split=HELD_OUT, copy=0, bucket=rank - buckets.train * dupe_factor)
    return BuildTask(split=TRAIN, copy=rank // buckets.train, bucket=rank % buckets.train)


def range_warning(plan: Plan) -> str | None:
    """Return advice when even groups of buckets leave over 100,000 ranges of under 1 MB, else None."""
    ranges = len(plan.tasks) * plan.num_groups
    if plan.range_bytes >= GOOD_RANGE_BYTES or ranges <= MANY_RANGES:
        return None
    scale = ceil(GOOD_RANGE_BYTES / max(plan.range_bytes, 1))
    return (
        f"{ranges:,} range reads of about {plan.range_bytes:,} bytes are slow on most file systems: "
        f"raise executor.task_bytes about {scale} times"
    )


def write_tasks(directory: Path, tasks: Sequence[Sequence[CorpusPart]]) -> None:
    """Write what every scatter task reads, one line a task."""
    with atomic_file(directory / PLAN_NAME) as file:
        for parts in tasks:
            file.write(json.dumps([asdict(part) for part in parts]).encode() + b"\n")


def read_task(directory: Path, rank: int) -> list[CorpusPart]:
    """Return what scatter task `rank` reads; the other lines are not parsed."""
    with (directory / PLAN_NAME).open("rb") as file:
        return [CorpusPart(**values) for values in json.loads(next(islice(file, rank, None)))]
