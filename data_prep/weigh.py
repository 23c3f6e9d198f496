"""Weights need the tokens of each source as build will find them: a short pass over the buckets counts them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from data_prep.atomic_file import write_atomically
from data_prep.corpus_config import CorpusConfig
from data_prep.mixing import uses_per_copy
from data_prep.regroup import ScatteredBuckets
from data_prep.tasks import read_distinct


class WeighStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A weighing task: the distinct documents of one train bucket -> tokens per source, in a small file."""

    name = "Lambert weigh"

    def __init__(self, scattered: ScatteredBuckets, near_duplicates: bool, num_sources: int) -> None:
        super().__init__()
        self.scattered = scattered
        self.near_duplicates = near_duplicates
        self.num_sources = num_sources

    def is_finished(self, rank: int) -> bool:
        """Return whether the bucket's counts are there."""
        return weight_file(self.scattered, rank).is_file()

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the tokens of each source in train bucket `rank`."""
        documents, _ = read_distinct(self.scattered, rank, near_duplicates=self.near_duplicates)
        tokens = np.bincount(documents.sources, documents.document_tokens, self.num_sources).astype(np.int64)
        write_atomically(weight_file(self.scattered, rank), json.dumps(tokens.tolist()).encode())


def weight_file(scattered: ScatteredBuckets, bucket: int) -> Path:
    """Return where the task of a bucket puts its counts."""
    return scattered.weights_dir / f"{bucket:05d}.json"


def weigh_sources(corpus: CorpusConfig, scattered: ScatteredBuckets) -> NDArray[np.float64]:
    """Return how often a document of each source is taken in one copy, float64 [sources], from the tasks' counts."""
    tokens: Counter[int] = Counter()
    for bucket in range(scattered.buckets.train):
        tokens.update(dict(enumerate(json.loads(weight_file(scattered, bucket).read_bytes()))))
    names: Sequence[str] = [source.name for source in corpus.sources]
    weights = [source.weight for source in corpus.sources if source.weight is not None]
    return uses_per_copy(names, [tokens[number] for number in range(len(names))], weights or None, corpus.exponent)
