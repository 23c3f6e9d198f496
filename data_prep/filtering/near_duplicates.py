"""The passes between scatter and build that find near duplicates: signatures -> pairs -> clusters."""

import shutil
from pathlib import Path

from data_prep.buckets import Buckets
from data_prep.config import ExecutorConfig
from data_prep.executors.executor import run_stage
from data_prep.filter_config import NearDuplicatesConfig
from data_prep.filtering.clusters import ClusterStep, clusters_dir
from data_prep.filtering.signatures import PairsStep, pairs_dir, signatures_dir


def find_near_duplicates(
    folder: Path, config: NearDuplicatesConfig, *, buckets: Buckets, executor: ExecutorConfig
) -> None:
    """Run what is left of both passes on the signatures in `folder`, then remove these. Raises TaskError."""
    clusters = ClusterStep(folder, buckets)
    if not clusters.is_finished():
        run_stage(
            "near pairs",
            [PairsStep(folder, config)],
            stage_dir=pairs_dir(folder),
            config=executor,
            task_sizes=[1] * config.num_buckets,
            unit=" tasks",
        )
        run_stage(
            "clusters", [clusters], stage_dir=clusters_dir(folder), config=executor, task_sizes=[1], unit=" tasks"
        )
    if signatures_dir(folder).is_dir():  # also those that a run left that ended before it could remove them
        shutil.rmtree(signatures_dir(folder))
