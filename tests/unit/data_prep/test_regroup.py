from pathlib import Path

import pytest

from data_prep.buckets import Buckets
from data_prep.regroup import RegroupStep, ScatteredBuckets, place_documents, scatter_file
from data_prep.scatter import ScatterWriter, read_bucket
from tests.unit.data_prep.example_documents import prose_like_documents

BUCKETS = Buckets(train=11, held_out=2, held_out_fraction=0.1)
NUM_TASKS = 3


def scatter(folder: Path, buckets_per_group: int) -> ScatteredBuckets:
    scattered = ScatteredBuckets(
        scatter_dir=folder, num_tasks=NUM_TASKS, buckets=BUCKETS, buckets_per_group=buckets_per_group
    )
    folder.mkdir()
    for task in range(NUM_TASKS):
        documents = prose_like_documents(40, seed=task)
        with ScatterWriter(scatter_file(folder, task), scattered.num_groups, 60, segment_tokens=5000) as writer:
            writer.add(documents, place_documents(documents, BUCKETS) // buckets_per_group)
    return scattered


@pytest.mark.parametrize("buckets_per_group", [2, 4, 13])
def test_a_bucket_holds_the_same_documents_through_groups_or_without(tmp_path: Path, buckets_per_group: int) -> None:
    direct, grouped = scatter(tmp_path / "direct", 1), scatter(tmp_path / "grouped", buckets_per_group)
    grouped.regroup_dir.mkdir()
    step = RegroupStep(grouped, vocab_size=60)
    for group in range(grouped.num_groups):
        assert not step.is_finished(group)
        step.run(rank=group)
        assert step.is_finished(group)
    num_documents = 0
    for bucket in range(BUCKETS.total):
        wanted, _ = read_bucket(*direct.locate(bucket))
        found, _ = read_bucket(*grouped.locate(bucket))
        assert len(grouped.locate(bucket)[0]) == 1
        assert found.ids.tolist() == wanted.ids.tolist()
        assert found.token_ids.tolist() == wanted.token_ids.tolist()
        assert found.sentence_lengths.tolist() == wanted.sentence_lengths.tolist()
        num_documents += len(found.ids)
    assert num_documents == 40 * NUM_TASKS
