"""Corpus files + sizes of the config -> tasks, buckets, range sizes. Pure functions, and the plan's file on disk."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import ceil
from pathlib import Path, PurePosixPath

from data_prep.atomic_file import atomic_file
from data_prep.corpus import COMPRESSIONS, CorpusFile, plain_suffix
from data_prep.documents import Buckets
from data_prep.manifest import HELD_OUT, TRAIN

PLAN_NAME = "plan.jsonl"

# A mid-sized corpus is cut into about this many tasks, so that a machine's workers share it, yet not into tiny ones.
TASKS_WORTH_HAVING = 32
SMALL_TASK_BYTES = 8_000_000

# Text bytes per byte on disk; English text gives 2.7 (gzip) to 3.5 (zstd -19). Rounded up: buckets stay small enough.
COMPRESSED_TEXT_RATIO = 4

# Scattered bytes per text byte: two bytes a token of about four characters, one bit of word start.
SCATTERED_BYTES_PER_TEXT_BYTE = 0.55
GOOD_RANGE_BYTES = 1_000_000
MANY_RANGES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the work is cut. Tasks change no byte of the shards; buckets do."""

    tasks: list[list[CorpusFile]]  # one scatter task each
    buckets: Buckets
    corpus_bytes: int  # as the files lie there

    @property
    def num_files(self) -> int:
        """Corpus files in all tasks."""
        return sum(map(len, self.tasks))

    @property
    def range_bytes(self) -> int:
        """Expected bytes that a build task reads from one scatter file in one range."""
        text_bytes = sum(text_bytes_of(file) for files in self.tasks for file in files)
        return int(text_bytes * SCATTERED_BYTES_PER_TEXT_BYTE / len(self.tasks) / self.buckets.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTask:
    """One build task: a copy of one bucket; `bucket` counts inside its split."""

    split: str
    copy: int
    bucket: int


def make_plan(files: Sequence[CorpusFile], *, task_bytes: int, bucket_bytes: int, held_out_fraction: float) -> Plan:
    """Return the plan for a listed corpus: the tasks from `task_bytes`, the buckets from `bucket_bytes` of text."""
    corpus_bytes = sum(file.size for file in files)
    text_bytes = sum(text_bytes_of(file) for file in files)
    per_task = min(task_bytes, max(corpus_bytes // TASKS_WORTH_HAVING, SMALL_TASK_BYTES))
    buckets = Buckets(
        train=max(1, ceil(text_bytes * (1 - held_out_fraction) / bucket_bytes)),
        held_out=max(1, ceil(text_bytes * held_out_fraction / bucket_bytes)) if held_out_fraction else 0,
        held_out_fraction=held_out_fraction,
    )
    return Plan(tasks=group_files(files, per_task), buckets=buckets, corpus_bytes=corpus_bytes)


def text_bytes_of(file: CorpusFile) -> int:
    """Return the text bytes a file is reckoned to hold: its size, or more where it is compressed."""
    compressed = PurePosixPath(file.path.lower()).suffix in COMPRESSIONS or plain_suffix(file.path) == ".parquet"
    return file.size * (COMPRESSED_TEXT_RATIO if compressed else 1)


def group_files(files: Sequence[CorpusFile], task_bytes: int) -> list[list[CorpusFile]]:
    """Return the files in order as runs of at most `task_bytes` each; a larger file is a run of its own."""
    groups: list[list[CorpusFile]] = []
    room = 0
    for file in files:
        if groups and file.size <= room:
            groups[-1].append(file)
        else:
            groups.append([file])
            room = task_bytes
        room -= file.size
    return groups


def num_build_tasks(buckets: Buckets, dupe_factor: int) -> int:
    """Return how many build tasks there are: every copy of every train bucket, and every held-out bucket once."""
    return buckets.train * dupe_factor + buckets.held_out


def build_task(rank: int, buckets: Buckets, dupe_factor: int) -> BuildTask:
    """Return build task `rank` of `num_build_tasks`, copy by copy, then the held-out split."""
    if rank >= buckets.train * dupe_factor:
        return BuildTask(split=HELD_OUT, copy=0, bucket=rank - buckets.train * dupe_factor)
    return BuildTask(split=TRAIN, copy=rank // buckets.train, bucket=rank % buckets.train)


def range_warning(plan: Plan) -> str | None:
    """Return advice when build would read many small ranges (under 1 MB, over 100,000 of them), else None."""
    ranges = len(plan.tasks) * plan.buckets.total
    if plan.range_bytes >= GOOD_RANGE_BYTES or ranges <= MANY_RANGES:
        return None
    scale = ceil(GOOD_RANGE_BYTES / max(plan.range_bytes, 1))
    return (
        f"{ranges:,} range reads of about {plan.range_bytes:,} bytes are slow on most file systems: "
        f"raise executor.task_bytes (or executor.bucket_bytes, if memory allows) about {scale} times"
    )


def write_tasks(directory: Path, tasks: Sequence[Sequence[CorpusFile]]) -> None:
    """Write the files of every scatter task, one line a task."""
    with atomic_file(directory / PLAN_NAME) as file:
        for files in tasks:
            file.write(json.dumps([asdict(corpus_file) for corpus_file in files]).encode() + b"\n")


def read_task(directory: Path, rank: int) -> list[CorpusFile]:
    """Return the files of scatter task `rank`; the other lines are not parsed."""
    with (directory / PLAN_NAME).open("rb") as file:
        return [CorpusFile(**values) for values in json.loads(next(islice(file, rank, None)))]
