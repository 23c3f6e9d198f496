"""`python -m benchmarks.packing`: of the tokens a model computes, how many are real, by what a batch is padded to."""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora import read_documents, shared_data, write_copies
from benchmarks.report import asks_for_quick, print_report
from conf.compose import compose
from data_prep.__main__ import prepare
from data_prep.config import DataPrepConfig, Packing
from data_prep.manifest import TRAIN, read_manifest
from data_prep.packing import pack_sequences
from data_prep.shard_reader import read_block, read_index

LENGTH = 512
BIN = 64  # of NVIDIA's LDDL
KINDS = ("nsp", "sop", "none")


def main() -> None:
    """Prepare the Wikipedia sample once per objective, pack its instances in each way, print the table."""
    quick = asks_for_quick(__doc__)
    kinds = KINDS[:1] if quick else KINDS
    vocabulary = shared_data() / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        write_copies(read_documents("en_mlperf_wiki_dev"), Path(folder) / "corpus", 1)
        rows = [describe(kind, instance_lengths(Path(folder), vocabulary, kind)) for kind in kinds]
    print_report(
        ["`pairs.kind`", "instances", "mean tokens", "padded to 512", "64-wide bins", "best fit", "packing, µs each"],
        rows,
        notes=[
            f"The English Wikipedia sample at {LENGTH} tokens, dupe_factor 1. Padded: one instance a row. Bins: rows "
            f"are padded to the next multiple of {BIN}. Best fit: `sequence.packing=best_fit`, each sequence padded. "
            "Lambert's own batches are flat and compute no padding in any of the three; packed sequences keep the "
            "tokens of a step even."
        ],
        quick=quick,
    )


def describe(kind: str, buckets: list[NDArray[np.int64]]) -> list[str]:
    """Return the row of one objective from the instance lengths of each bucket."""
    lengths = np.concatenate(buckets)
    started = time.perf_counter()
    sequences = sum(len(pack_sequences(bucket, LENGTH, Packing.best_fit)) for bucket in buckets)
    seconds = time.perf_counter() - started
    computed = (len(lengths) * LENGTH, int((-(-lengths // BIN) * BIN).sum()), sequences * LENGTH)
    shares = [f"{lengths.sum() / tokens:.1%}" for tokens in computed]
    return [kind, f"{len(lengths):,}", f"{lengths.mean():.0f}", *shares, f"{1e6 * seconds / len(lengths):.1f}"]


def instance_lengths(folder: Path, vocabulary: Path, kind: str) -> list[NDArray[np.int64]]:
    """Return the lengths of the instances of each train shard, which is a bucket's here."""
    output_dir = folder / kind
    overrides = [f"output_dir={output_dir}", f"corpus.paths=[{folder / 'corpus'}]", "corpus.format=jsonl"]
    overrides += [f"tokenizer.vocab_file={vocabulary}", f"sequence.max_seq_length={LENGTH}", f"pairs.kind={kind}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(compose("data_prep", DataPrepConfig, [*overrides, "dupe_factor=1"]))
    lengths = []
    for shard in read_manifest(output_dir).splits[TRAIN]:
        with (output_dir / shard.name).open("rb") as file:
            blocks = [read_block(file, entry)[1] for entry in read_index(output_dir / shard.name)]
        lengths.append(np.concatenate([block.instance_lengths for block in blocks]).astype(np.int64))
    return lengths


if __name__ == "__main__":
    main()
