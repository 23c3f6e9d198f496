import random
import resource
import tracemalloc
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

from data_prep.documents import document_id
from data_prep.filter_config import NearDuplicatesConfig
from data_prep.filtering.signatures import (
    DOCUMENTS_AT_A_TIME,
    SHINGLES_AT_A_TIME,
    PairsStep,
    SignatureStep,
    band_dir,
    hash_text,
    ids_file,
    minhash_config,
    pairs_dir,
    signatures_dir,
)
from data_prep.filtering.words import UnicodeWords
from tests.unit.data_prep.example_shards import data_prep_config

CONFIG = NearDuplicatesConfig()


def make_text(number: int, words: int) -> str:
    """Return random words; of letters, since every number counts as 0 in a shingle."""
    rng = random.Random(number)
    return " ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(words))


def documents(*texts: str) -> Iterator[Document]:
    return (Document(text=text, id="") for text in texts)


def sign(folder: Path, rank: int, *texts: str, config: NearDuplicatesConfig = CONFIG) -> list[str]:
    return [document.text for document in SignatureStep(folder, config).run(documents(*texts), rank)]


def read_pairs(folder: Path) -> set[tuple[int, int, int, int]]:
    files = sorted(pairs_dir(folder).glob("*.dups"))
    return {tuple(map(int, row)) for file in files for row in np.fromfile(file, "<u4").reshape(-1, 4)}


def test_signature_files_are_those_of_datatrove_to_the_byte(tmp_path: Path) -> None:
    texts = [make_text(number, words) for number, words in enumerate((5, 40, 40, 3 * SHINGLES_AT_A_TIME + 7))]
    texts += [texts[1], texts[2] + " more words at the end"]
    assert sign(tmp_path, 3, *texts) == texts
    theirs = MinhashDedupSignature(str(tmp_path / "theirs"), minhash_config(CONFIG), language=UnicodeWords("en"))
    theirs._hash_func = hash_text  # theirs, but for a string that new releases of xxhash want encoded
    theirs.run(documents(*texts), rank=3)
    files = {path.relative_to(tmp_path / "theirs"): path.read_bytes() for path in (tmp_path / "theirs").rglob("*.sig")}
    ours = signatures_dir(tmp_path)
    assert len(files) == 14
    assert {path.relative_to(ours): path.read_bytes() for path in ours.rglob("*") if path.is_file()} == files


def test_documents_shorter_than_a_shingle_pass_unsigned(tmp_path: Path) -> None:
    texts = ["", "four words, no more", make_text(1, 30), "", make_text(2, 30)]
    assert sign(tmp_path, 0, *texts) == texts
    assert ids_file(tmp_path, 0).read_bytes() == document_id(texts[2]) + document_id(texts[4])
    assert sign(tmp_path, 1) == []
    assert ids_file(tmp_path, 1).read_bytes() == b""
    assert [path.stat().st_size for path in sorted(band_dir(tmp_path, 13).iterdir())] == [2 * 68, 0]


def test_an_abandoned_task_leaves_no_file_that_the_next_stage_would_read(tmp_path: Path) -> None:
    running = SignatureStep(tmp_path, CONFIG).run(documents(make_text(1, 30), make_text(2, 30)), rank=0)
    next(running)
    running.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pairs_are_those_of_documents_that_agree_in_a_band(tmp_path: Path) -> None:
    config = NearDuplicatesConfig(num_buckets=6, hashes_per_bucket=3)
    first = make_text(0, 60)
    texts = [first, first + " end", make_text(1, 60), first[:200] + " cut", make_text(1, 59), first]
    step = SignatureStep(tmp_path, config)
    bands = [step.sign(step.get_shingles(text)) for text in texts]
    for rank in range(2):
        sign(tmp_path, rank, *texts[rank * 3 : rank * 3 + 3], config=config)
    (band_dir(tmp_path, 2) / ".00000.minhash.sig.17.tmp").write_bytes(b"of a killed task")
    for band in range(6):
        PairsStep(tmp_path, config).run(None, band, 6)
    agree = {(a, b) for a, b in combinations(range(6), 2) if (bands[a] == bands[b]).all(axis=1).any()}
    assert {(0, 1), (0, 5), (1, 5), (2, 4)} <= agree
    found = {(rank_a * 3 + a, rank_b * 3 + b) for rank_a, a, rank_b, b in read_pairs(tmp_path)}
    assert found <= agree | {(b, a) for a, b in agree}
    assert _connected(found) == _connected(agree)


def _connected(pairs: set[tuple[int, int]]) -> set[frozenset[int]]:
    clusters = {frozenset((node,)) for pair in pairs for node in pair}
    for a, b in pairs:
        joined = frozenset().union(*(cluster for cluster in clusters if a in cluster or b in cluster))
        clusters = {cluster for cluster in clusters if not cluster & joined} | {joined}
    return clusters


@pytest.fixture
def few_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_open_files")
def test_more_tasks_than_open_files_are_allowed(tmp_path: Path) -> None:
    config = NearDuplicatesConfig(num_buckets=1, hashes_per_bucket=2)
    for rank in range(120):
        sign(tmp_path, rank, make_text(rank // 2, 20), config=config)
    PairsStep(tmp_path, config).run(None, 0, 1)
    assert {(rank_a // 2, rank_b // 2) for rank_a, _, rank_b, _ in read_pairs(tmp_path)} == {(n, n) for n in range(60)}


def test_an_empty_section_is_fineweb_s_and_a_wrong_value_is_refused() -> None:
    assert data_prep_config().corpus.near_duplicates is None
    assert data_prep_config("corpus.near_duplicates={}").corpus.near_duplicates == CONFIG
    other = data_prep_config("corpus.near_duplicates={n_grams: 13}").corpus.near_duplicates
    assert other == NearDuplicatesConfig(num_buckets=14, hashes_per_bucket=8, n_grams=13)
    with pytest.raises(ValueError, match=r"corpus\.near_duplicates\.num_buckets=0 is not valid: at least 1"):
        data_prep_config("corpus.near_duplicates={num_buckets: 0}")
    with pytest.raises(ValueError, match="bands"):
        data_prep_config("corpus.near_duplicates={bands: 14}")


def test_writing_signatures_takes_30_bytes_of_memory_a_document(tmp_path: Path) -> None:
    count = 4 * DOCUMENTS_AT_A_TIME
    values = np.random.default_rng(0).integers(0, 2**63, (count, 2, 8), np.uint64)
    step = SignatureStep(tmp_path, NearDuplicatesConfig(num_buckets=2))
    with TemporaryFile() as unsorted:
        unsorted.write(values.tobytes())
        tracemalloc.start()
        step.write_bands(unsorted, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30 * count + 150 * DOCUMENTS_AT_A_TIME
    lines = np.fromfile(band_dir(tmp_path, 1) / "00000.minhash.sig", [("hashes", "<u8", 8), ("document", "<u4")])
    order = values[:, 1, 0].argsort()
    assert np.array_equal(lines["document"], order)
    assert np.array_equal(lines["hashes"], values[order, 1])
