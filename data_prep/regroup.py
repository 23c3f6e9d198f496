"""Where the documents of each bucket lie, and the pass between scatter and build that very large corpora need.

Scatter tasks x buckets ranges would be millions of small ones there. So scatter sorts by groups of buckets, and a task
of this pass reads the range of one group from every scatter file and writes it sorted by bucket.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from data_prep.buckets import Buckets, place_document
from data_prep.scatter import ScatterWriter, iterate_bucket
from data_prep.tokenized import TokenizedDocuments


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteredBuckets:
    """The tokenized corpus on disk: the files of scatter, and of regroup where buckets are grouped."""

    scatter_dir: Path
    num_tasks: int  # scatter files
    buckets: Buckets
    buckets_per_group: int  # 1: build reads the scatter files; else it reads those of `regroup_dir`

    @property
    def num_groups(self) -> int:
        """Groups of buckets, each a range of every scatter file."""
        return self.buckets.count_groups(self.buckets_per_group)

    @property
    def scatter_files(self) -> list[Path]:
        """The files of all scatter tasks."""
        return [scatter_file(self.scatter_dir, number) for number in range(self.num_tasks)]

    @property
    def regroup_dir(self) -> Path:
        """The folder of the pass between."""
        return self.scatter_dir / "regroup"

    @property
    def near_duplicates_dir(self) -> Path:
        """The folder of the passes between that find near duplicates."""
        return self.scatter_dir / "near_duplicates"

    @property
    def weights_dir(self) -> Path:
        """The folder of the pass that counts the tokens of each source."""
        return self.scatter_dir / "weights"

    def locate(self, bucket: int) -> tuple[list[Path], int]:
        """Return the files that hold a bucket, and its number in them; `bucket` counts over both splits."""
        if self.buckets_per_group == 1:
            return self.scatter_files, bucket
        group, place = divmod(bucket, self.buckets_per_group)
        return [scatter_file(self.regroup_dir, group)], place


class RegroupStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A regroup task: one group of buckets, from its ranges in every scatter file to one file sorted by bucket."""

    name = "Lambert regroup"

    def __init__(self, scattered: ScatteredBuckets, vocab_size: int) -> None:
        super().__init__()
        self.scattered = scattered
        self.vocab_size = vocab_size

    def is_finished(self, rank: int) -> bool:
        """Return whether the group's file is there; it appears only when it is complete."""
        return scatter_file(self.scattered.regroup_dir, rank).is_file()

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the file of group `rank`. Memory is that of a segment, whatever the size of the group."""
        per_group = self.scattered.buckets_per_group
        with ScatterWriter(scatter_file(self.scattered.regroup_dir, rank), per_group, self.vocab_size) as writer:
            for documents in iterate_bucket(self.scattered.scatter_files, rank):
                writer.add(documents, place_documents(documents, self.scattered.buckets) - rank * per_group)


def place_documents(documents: TokenizedDocuments, buckets: Buckets) -> NDArray[np.int64]:
    """Return the bucket of each document, int64 [documents], counted over both splits."""
    return np.array([place_document(identifier.tobytes(), buckets) for identifier in documents.ids], dtype=np.int64)


def scatter_file(stage_dir: Path, rank: int) -> Path:
    """Return where scatter task `rank`, or the regroup task of group `rank`, puts its file."""
    return stage_dir / f"{rank:05d}.scatter"
