"""Listed corpus files -> what scatter tasks read: runs of whole files, and of byte ranges of large ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from data_prep.corpus import CorpusFile, compression_of
from data_prep.corpus_config import CorpusFormat
from data_prep.reading.lines import END

# A mid-sized corpus is cut into about this many tasks, so that a machine's workers share it, yet not into tiny ones.
TASKS_WORTH_HAVING = 32
SMALL_TASK_BYTES = 8_000_000

# A large corpus is cut into about this many tasks at most, each of at least 256 MB: one scatter file a task.
MANY_TASKS = 4096
LARGE_TASK_BYTES = 256_000_000

# Formats whose documents can be told apart from any byte on: quoted newlines of CSV can't.
_CUTTABLE = {CorpusFormat.jsonl, CorpusFormat.text_blank_lines, CorpusFormat.wikiextractor}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPart:
    """A corpus file, or those of its documents that belong to the bytes from `start` to before `stop`."""

    path: str
    size: int  # bytes, as they lie there
    start: int = 0
    stop: int = END
    source: int = 0  # which of `corpus.sources`, by number

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole file."""
        return (self.start, self.stop) == (0, END)


def choose_task_bytes(task_bytes: int | None, corpus_bytes: int) -> int:
    """Return the bytes of a scatter task from `executor.task_bytes`.

    Null stands for 256 MB, or a 4,096th of the corpus where that is more. Either way a small corpus gets smaller tasks:
    a 32nd of it, but at least 8 MB.
    """
    largest = task_bytes or max(LARGE_TASK_BYTES, ceil(corpus_bytes / MANY_TASKS))
    return min(largest, max(corpus_bytes // TASKS_WORTH_HAVING, SMALL_TASK_BYTES))


def cut_files(files: Sequence[CorpusFile], formats: Sequence[CorpusFormat], part_bytes: int) -> list[CorpusPart]:
    """Return the files in order, those of more than `part_bytes` as equal byte ranges if their format lets them be cut.

    `formats` are those of the sources.

    Compressed files are never cut, nor are whole documents (text), CSV, Parquet, Arrow and WARC files.
    """
    parts: list[CorpusPart] = []
    for file in files:
        count = ceil(file.size / part_bytes)
        if count <= 1 or formats[file.source] not in _CUTTABLE or compression_of(file.path):
            parts.append(CorpusPart(path=file.path, size=file.size, source=file.source))
            continue
        edges = [file.size * number // count for number in range(count + 1)]
        parts += [
            CorpusPart(path=file.path, size=stop - start, start=start, stop=stop, source=file.source)
            for start, stop in pairwise(edges)
        ]
    return parts


def group_parts(parts: Sequence[CorpusPart], task_bytes: int) -> list[list[CorpusPart]]:
    """Return the parts in order as runs of at most `task_bytes` each; a larger part is a run of its own."""
    groups: list[list[CorpusPart]] = []
    room = 0
    for part in parts:
        if groups and part.size <= room:
            groups[-1].append(part)
        else:
            groups.append([part])
            room = task_bytes
        room -= part.size
    return groups
