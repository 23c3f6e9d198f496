"""MinHash, by datatrove: signatures of documents, taken during scatter, and the pairs where they agree."""

import resource
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature
from numpy.typing import NDArray

from data_prep.atomic_file import atomic_file, remove_unfinished
from data_prep.documents import document_id
from data_prep.filter_config import NearDuplicatesConfig
from data_prep.filtering.words import UnicodeWords

SHINGLES_AT_A_TIME = 512  # times 112 hashes of 8 bytes: what fits a core's cache
DOCUMENTS_AT_A_TIME = 1 << 14  # whose sorted lines take 1 MB
LINES_AT_A_TIME = 128  # of every signature file at once: 9 kB


class SignatureStep(MinhashDedupSignature):  # type: ignore[misc]  # datatrove has no types
    """Signs the cleaned documents that pass by, for datatrove's second stage; one under `n_grams` words stays unsigned.

    datatrove's own step lets no document pass, and takes 2.7 kB of memory a word of the longest one.
    """

    name = "Lambert signatures"

    def __init__(self, folder: Path, config: NearDuplicatesConfig) -> None:
        words = UnicodeWords("en")  # its words are those of any language
        super().__init__(str(signatures_dir(folder)), minhash_config(config), language=words)
        self.folder = folder
        self._hash_func = hash_text

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents as they are; after the last, write the ids and the sorted signatures of task `rank`."""
        ids = ids_file(self.folder, rank)
        ids.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=ids.parent) as unsorted, atomic_file(ids) as file:
            for document in data:
                shingles = self.get_shingles(document.text)
                if len(shingles):
                    unsorted.write(self.sign(shingles).tobytes())
                    file.write(document_id(document.text))
                yield document
            self.write_bands(unsorted, rank)

    def sign(self, shingles: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return datatrove's signature of a document with shingles, uint64 [n, 1]: uint64 [bands, hashes per band]."""
        starts = range(0, len(shingles), SHINGLES_AT_A_TIME)
        parts = [self.get_signature(shingles[start : start + SHINGLES_AT_A_TIME]) for start in starts]
        return np.array(parts, dtype="<u8").min(axis=0)

    def write_bands(self, unsorted: BinaryIO, rank: int) -> None:
        """Write each band of the signatures as datatrove does: lines of hashes and the document's number, sorted."""
        unsorted.flush()
        signatures = np.memmap(unsorted, "<u8", "r") if unsorted.tell() else np.empty(0, "<u8")
        bands = signatures.reshape(-1, self.config.num_buckets, self.config.hashes_per_bucket).swapaxes(0, 1)
        for band, hashes in enumerate(bands):
            order = np.lexsort(hashes.T[::-1])
            path = band_dir(self.folder, band) / f"{rank:05d}.minhash.sig"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                for some in np.array_split(order, len(order) // DOCUMENTS_AT_A_TIME + 1):
                    lines = np.empty(len(some), [("hashes", "<u8", hashes.shape[1]), ("document", "<u4")])
                    lines["hashes"], lines["document"] = hashes[some], some
                    file.write(lines.data)


class PairsStep(MinhashDedupBuckets):  # type: ignore[misc]
    """datatrove's second stage: pairs of documents whose signatures agree in one band, a task a band."""

    name = "Lambert pairs"

    def __init__(self, folder: Path, config: NearDuplicatesConfig) -> None:
        super().__init__(
            str(signatures_dir(folder)),
            str(pairs_dir(folder)),
            config=minhash_config(config),
            lines_to_buffer=LINES_AT_A_TIME,
        )
        self.folder = folder

    def is_finished(self, rank: int) -> bool:
        """Return whether the pairs of band `rank` are there; the task's marker says that they are complete."""
        return (pairs_dir(self.folder) / f"{rank:05d}_00.dups").is_file()

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the pairs of band `rank`. All signature files of the band are open at once."""
        band = band_dir(self.folder, rank)
        remove_unfinished(band)  # of killed scatter tasks: datatrove reads whatever lies there
        allow_open_files(sum(1 for _ in band.iterdir()) + 256)
        super().run(data, rank, world_size)


def signatures_dir(folder: Path) -> Path:
    """Return where signatures lie until clusters are known."""
    return folder / "signatures"


def band_dir(folder: Path, band: int) -> Path:
    """Return where datatrove looks for the signatures of one band of hashes, a file a scatter task."""
    return signatures_dir(folder) / f"bucket_{band:03d}"


def pairs_dir(folder: Path) -> Path:
    """Return where the pairs lie, a file a band."""
    return folder / "pairs"


def ids_dir(folder: Path) -> Path:
    """Return where the ids of signed documents lie, a file a scatter task."""
    return folder / "ids"


def ids_file(folder: Path, rank: int) -> Path:
    """Return where scatter task `rank` puts the ids of the documents it signed, in the order of their numbers."""
    return ids_dir(folder) / f"{rank:05d}.ids"


def minhash_config(config: NearDuplicatesConfig) -> MinhashConfig:
    """Return datatrove's form of our config; hashes are xxhash's, of 64 bits."""
    return MinhashConfig(
        n_grams=config.n_grams, num_buckets=config.num_buckets, hashes_per_bucket=config.hashes_per_bucket
    )


def hash_text(text: str) -> int:
    """Return datatrove's hash of a shingle, 64 bits. Its own function hands over a string, which xxhash 4 refuses."""
    return xxhash.xxh64_intdigest(text.encode())


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files to `wanted`, or as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
