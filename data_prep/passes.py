"""The passes over a corpus, each a stage of tasks that an executor runs: scatter, regroup where it is needed, build."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.atomic_file import remove_unfinished
from data_prep.config import DataPrepConfig
from data_prep.executors.executor import run_stage
from data_prep.filtering.filters import FilterStep
from data_prep.filtering.signatures import SignatureStep, ids_dir
from data_prep.manifest import TokenizerInfo
from data_prep.plan import Plan, num_build_tasks, write_tasks
from data_prep.reading.readers import CorpusReader
from data_prep.regroup import RegroupStep, ScatteredBuckets
from data_prep.tasks import BuildStep, ScatterStep
from data_prep.weigh import WeighStep, weigh_sources


def scatter(config: DataPrepConfig, plan: Plan, tokenizer_file: Path, scattered: ScatteredBuckets) -> None:
    """Run the first pass: one scatter file a task."""
    scatter_dir = scattered.scatter_dir
    scatter_dir.mkdir(parents=True, exist_ok=True)
    remove_unfinished(scatter_dir)  # a killed run leaves files of gigabytes under names that no rerun writes again
    remove_unfinished(ids_dir(scattered.near_duplicates_dir))
    write_tasks(scatter_dir, plan.tasks)
    # The work directory may serve other output directories later: its tasks use their own copy.
    own_tokenizer = scatter_dir / "tokenizer.json"
    shutil.copyfile(tokenizer_file, own_tokenizer)
    near_duplicates = config.corpus.near_duplicates
    reader = CorpusReader(scatter_dir, config.corpus)
    filters = FilterStep(config.corpus.filters, config.sentences.language)
    run_stage(
        "scatter",
        [
            reader,
            *([filters] if config.corpus.filters or near_duplicates else []),
            *([SignatureStep(scattered.near_duplicates_dir, near_duplicates)] if near_duplicates else []),
            ScatterStep(scattered, own_tokenizer, config.corpus, config.sentences, reader, filters),
        ],
        stage_dir=scatter_dir,
        config=config.executor,
        task_sizes=[sum(part.size for part in parts) for parts in plan.tasks],
        unit="B",
    )


def regroup(config: DataPrepConfig, scattered: ScatteredBuckets, tokenizer: TokenizerInfo) -> None:
    """Run the pass between: one file a group of buckets."""
    remove_unfinished(scattered.regroup_dir)
    run_stage(
        "regroup",
        [RegroupStep(scattered, tokenizer.vocab_size)],
        stage_dir=scattered.regroup_dir,
        config=config.executor,
        task_sizes=[1] * scattered.num_groups,
        unit=" tasks",
    )


def weigh(config: DataPrepConfig, scattered: ScatteredBuckets) -> NDArray[np.float64]:
    """Return how often a document of each source is taken in one copy; where sources have weights, count them first."""
    corpus = config.corpus
    if corpus.exponent is None and all(source.weight is None for source in corpus.sources):
        return np.ones(max(len(corpus.sources), 1))
    run_stage(
        "weigh",
        [WeighStep(scattered, corpus.near_duplicates is not None, len(corpus.sources))],
        stage_dir=scattered.weights_dir,
        config=config.executor,
        task_sizes=[1] * scattered.buckets.train,
        unit=" tasks",
    )
    return weigh_sources(corpus, scattered)


def build(
    config: DataPrepConfig, scattered: ScatteredBuckets, tokenizer: TokenizerInfo, build_dir: Path,
    per_copy: NDArray[np.float64],
) -> None:  # fmt: skip
    """Run the last pass: the shards of every copy of every bucket."""
    run_stage(
        "build",
        [BuildStep(build_dir, scattered, config, tokenizer, per_copy)],
        stage_dir=build_dir,
        config=config.executor,
        task_sizes=[1] * num_build_tasks(scattered.buckets, config.dupe_factor),
        unit=" tasks",
    )
