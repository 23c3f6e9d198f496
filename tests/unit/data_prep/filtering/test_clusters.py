from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.buckets import Buckets, is_held_out, place_document
from data_prep.filtering.clusters import ClusterStep, find_superfluous, remove_near_duplicates
from data_prep.filtering.signatures import ids_file, pairs_dir
from data_prep.tokenized import TokenizedDocuments

PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20)


def make_ids(numbers: list[int]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(blake2b(bytes([n // 256, n % 256]), digest_size=16).digest() for n in numbers), "V16")


def superfluous(pairs: list[tuple[int, int]]) -> set[bytes]:
    ids = find_superfluous(make_ids([a for a, _ in pairs]), make_ids([b for _, b in pairs]))
    assert len({one.tobytes() for one in ids}) == len(ids)
    return {one.tobytes() for one in ids}


def clusters_of(pairs: list[tuple[int, int]]) -> set[frozenset[int]]:
    clusters = {frozenset((node,)) for pair in pairs for node in pair}
    for a, b in pairs:
        joined = frozenset().union(*(cluster for cluster in clusters if a in cluster or b in cluster))
        clusters = {cluster for cluster in clusters if not cluster & joined} | {joined}
    return clusters


@given(PAIRS)
def test_all_of_a_cluster_but_one_are_superfluous(pairs: list[tuple[int, int]]) -> None:
    dropped = superfluous(pairs)
    for cluster in clusters_of(pairs):
        ids = {one.tobytes() for one in make_ids(sorted(cluster))}
        assert len(ids - dropped) == 1
    assert len(dropped) == sum(len(cluster) - 1 for cluster in clusters_of(pairs))


@given(PAIRS, st.randoms(use_true_random=False))
def test_which_one_stays_depends_on_the_clusters_only(pairs: list[tuple[int, int]], rng) -> None:  # type: ignore[no-untyped-def]
    others = [tuple(rng.sample(pair, 2)) for pair in pairs]
    for cluster in map(sorted, clusters_of(pairs)):
        others += [(rng.choice(cluster), rng.choice(cluster)) for _ in range(3)]
    rng.shuffle(others)
    assert superfluous(others) == superfluous(pairs)


def test_a_long_chain_is_one_cluster() -> None:
    order = np.random.default_rng(0).permutation(5000).tolist()
    assert len(superfluous(list(pairwise(order)))) == 4999


def test_the_one_that_stays_tends_to_no_split_and_no_bucket() -> None:
    pairs = [(2 * number, 2 * number + 1) for number in range(10_000)]
    dropped = superfluous(pairs)
    kept = [one.tobytes() for one in make_ids(list(range(20_000))) if one.tobytes() not in dropped]
    buckets = Buckets(train=4, held_out=0, held_out_fraction=0.0)
    held_out = sum(is_held_out(one, 0.1) for one in kept)
    in_first = sum(place_document(one, buckets) == 0 for one in kept)
    assert abs(held_out - 1000) < 4 * (10_000 * 0.1 * 0.9) ** 0.5
    assert abs(in_first - 2500) < 4 * (10_000 * 0.25 * 0.75) ** 0.5


def test_a_bucket_loses_its_superfluous_documents_whichever_task_read_them(tmp_path: Path) -> None:
    """Documents 0, 1 and 2 of the first task are near 2, 1 and 0 of the second; one of these is an exact copy."""
    buckets = Buckets(train=3, held_out=2, held_out_fraction=0.3)
    numbers = [[0, 1, 2, 3], [4, 1, 5]]
    for rank, ones in enumerate(numbers):
        ids_file(tmp_path, rank).parent.mkdir(exist_ok=True)
        ids_file(tmp_path, rank).write_bytes(make_ids(ones).tobytes())
    pairs_dir(tmp_path).mkdir()
    rows = np.array([[0, 0, 1, 2], [0, 1, 1, 1], [0, 2, 1, 0]], "<u4")
    (pairs_dir(tmp_path) / "00000_00.dups").write_bytes(rows[:2].tobytes())
    (pairs_dir(tmp_path) / "00001_00.dups").write_bytes(rows[1:].tobytes())
    (pairs_dir(tmp_path) / "00002_00.dups").touch()
    step = ClusterStep(tmp_path, buckets)
    (tmp_path / "clusters").mkdir()
    assert not step.is_finished()
    step.run()
    assert step.is_finished()
    every = make_ids(list(range(6)))
    places = [place_document(one.tobytes(), buckets) for one in every]
    kept: set[bytes] = set()
    dropped = 0
    for bucket in range(buckets.total):
        ids = every[[place == bucket for place in places]]
        lengths = np.ones(len(ids), np.int64)
        here = TokenizedDocuments(
            ids=ids, sources=np.zeros(len(ids), np.uint8), document_sentences=lengths, sentence_lengths=lengths,
            token_ids=lengths.astype(np.uint16),
            word_starts=lengths.astype(np.bool_),
        )  # fmt: skip
        stay, count = remove_near_duplicates(here, tmp_path, bucket)
        kept |= {one.tobytes() for one in stay.ids}
        dropped += count
    assert dropped == 2
    assert {one.tobytes() for one in every} - kept == superfluous([(0, 5), (1, 1), (2, 4)])


def test_a_corpus_without_pairs_loses_nothing(tmp_path: Path) -> None:
    pairs_dir(tmp_path).mkdir()
    (pairs_dir(tmp_path) / "00000_00.dups").touch()
    (tmp_path / "clusters").mkdir()
    ClusterStep(tmp_path, Buckets(train=2, held_out=0, held_out_fraction=0.0)).run()
    lengths = np.ones(3, np.int64)
    documents = TokenizedDocuments(
        ids=make_ids([0, 1, 2]), sources=np.zeros(3, np.uint8), document_sentences=lengths, sentence_lengths=lengths,
        token_ids=lengths, word_starts=lengths.astype(np.bool_),
    )  # fmt: skip
    assert remove_near_duplicates(documents, tmp_path, 1)[1] == 0
