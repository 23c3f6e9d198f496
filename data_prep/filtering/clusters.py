"""Pairs of similar documents -> clusters -> the ids that build leaves out: all of a cluster but one.

datatrove would keep one by its place in the files, so that shards would depend on how tasks are cut; here ids decide.
"""

from pathlib import Path

import numpy as np
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from data_prep.atomic_file import atomic_file, write_atomically
from data_prep.buckets import Buckets, place_document
from data_prep.documents import ID_BYTES
from data_prep.filtering.signatures import ids_file, pairs_dir
from data_prep.tokenized import TokenizedDocuments, take_documents


class ClusterStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """One task: the pairs of all bands -> the superfluous ids sorted by bucket, and where each bucket's begin."""

    name = "Lambert clusters"

    def __init__(self, folder: Path, buckets: Buckets) -> None:
        super().__init__()
        self.folder = folder
        self.buckets = buckets

    def is_finished(self, rank: int = 0) -> bool:
        """Return whether the file that is written last is there."""
        return _edges_file(self.folder).is_file()

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the ids, then the edges of the buckets."""
        pairs = np.empty(0, "V16")
        for band in sorted(pairs_dir(self.folder).glob("*.dups")):  # most pairs agree in several bands
            pairs = np.unique(np.concatenate([pairs, np.fromfile(band, "V16")]))
        places = pairs.view("<u4").reshape(-1, 4)
        ids = find_superfluous(self._read_ids(places[:, :2]), self._read_ids(places[:, 2:]))
        buckets = np.array([place_document(one.tobytes(), self.buckets) for one in ids], dtype=np.int64)
        order = np.argsort(buckets, kind="stable")
        write_atomically(_superfluous_file(self.folder), ids[order].tobytes())
        with atomic_file(_edges_file(self.folder)) as file:
            np.save(file, np.searchsorted(buckets[order], np.arange(self.buckets.total + 1)))

    def _read_ids(self, places: NDArray[np.uint32]) -> NDArray[np.void]:
        """Return the ids, V16 [documents], of documents named by scatter task and number, uint32 [documents, 2]."""
        ids = np.empty(len(places), f"V{ID_BYTES}")
        order = np.argsort(places[:, 0], kind="stable")
        ranks, starts = np.unique(places[order, 0], return_index=True)
        for rank, rows in zip(ranks, np.split(order, starts[1:]), strict=False):  # no rank at all: one split
            ids[rows] = np.fromfile(ids_file(self.folder, int(rank)), ids.dtype)[places[rows, 1]]
        return ids


def find_superfluous(first: NDArray[np.void], second: NDArray[np.void]) -> NDArray[np.void]:
    """Return the ids, V16, of all documents but one of each cluster, from pairs of ids, V16 [pairs] each.

    Documents that a chain of pairs connects form a cluster. Which one stays depends on the ids only: the least by the
    low halves of its two words, for the high halves place a document in its split and its bucket.
    """
    ids = np.concatenate([first, second])
    order = np.lexsort(ids.view(">u4").reshape(-1, 4)[:, (2, 0, 3, 1)].T)  # the last key decides first
    is_first = np.ones(len(ids), dtype=np.bool_)
    is_first[1:] = ids[order[1:]] != ids[order[:-1]]
    numbers = np.empty(len(ids), dtype=np.int64)
    numbers[order] = np.cumsum(is_first) - 1
    distinct = ids[order[is_first]]
    least = connect(numbers[: len(first)], numbers[len(first) :], len(distinct))
    return distinct[least != np.arange(len(distinct))]


def connect(first: NDArray[np.int64], second: NDArray[np.int64], num_nodes: int) -> NDArray[np.int64]:
    """Return for each node, int64 [nodes], the least node that a chain of edges (first[i], second[i]) leads to."""
    least = np.arange(num_nodes)
    while True:
        ends = least[first], least[second]
        low, high = np.minimum(*ends), np.maximum(*ends)
        if np.array_equal(low, high):
            return least
        np.minimum.at(least, high, low)
        while not np.array_equal(nearer := least[least], least):
            least = nearer


def remove_near_duplicates(documents: TokenizedDocuments, folder: Path, bucket: int) -> tuple[TokenizedDocuments, int]:
    """Return the documents of a bucket that stay, and how many do not; `bucket` counts over both splits."""
    start, stop = np.load(_edges_file(folder))[bucket : bucket + 2].tolist()
    ids = np.fromfile(_superfluous_file(folder), f"V{ID_BYTES}", stop - start, offset=start * ID_BYTES)
    superfluous = {one.tobytes() for one in ids}
    kept = [row for row, one in enumerate(documents.ids) if one.tobytes() not in superfluous]
    return take_documents(documents, np.array(kept, dtype=np.int64)), len(documents.ids) - len(kept)


def clusters_dir(folder: Path) -> Path:
    """Return the folder of the cluster stage and its two files."""
    return folder / "clusters"


def _superfluous_file(folder: Path) -> Path:
    return clusters_dir(folder) / "superfluous.ids"


def _edges_file(folder: Path) -> Path:
    return clusters_dir(folder) / "edges.npy"
