"""`python -m benchmarks.bucket_memory`: what a worker of data_prep holds, by the size of a bucket; bytes on disk."""

import os
import tempfile
from math import ceil
from pathlib import Path

from benchmarks.corpora import ENGLISH, read_documents, shared_data, write_copies
from benchmarks.data_prep import measure
from benchmarks.report import asks_for_quick, megabytes, print_report
from data_prep.manifest import TRAIN, read_manifest
from data_prep.work_dir import WORK_FOLDER


def main() -> None:
    """Prepare one corpus with buckets of several sizes and print the peaks."""
    quick = asks_for_quick(__doc__)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    texts = [text for name in ENGLISH for text in read_documents(name)]
    vocabulary = shared_data() / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    rows = []
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        corpus = Path(folder) / "corpus"
        size = write_copies(texts[-20:] if quick else texts, corpus, 2 if quick else 19)
        on_disk = sum(path.stat().st_size for path in corpus.iterdir())  # JSON takes more than its text
        for parts in (32, 4, 2, 1):
            output_dir = Path(folder) / f"parts-{parts}"
            settings = [f"executor.bucket_bytes={ceil(on_disk / parts)}", "held_out_fraction=0"]
            measured = measure(corpus, output_dir, vocabulary, 1, *settings)
            shards = read_manifest(output_dir).splits[TRAIN]
            largest = max(shards, key=lambda shard: shard.bytes)
            share = largest.tokens / sum(shard.tokens for shard in shards)
            scattered = sum(path.stat().st_size for path in (output_dir / WORK_FOLDER).rglob("*.scatter"))
            kept = sum(shard.bytes for shard in shards)
            rows.append([megabytes(size * share), megabytes(largest.bytes), megabytes(measured.peak_bytes)])
    print_report(
        ["largest bucket, MB of text", "its shard, MB", "peak memory, MB"],
        rows,
        notes=[
            f"{megabytes(size)} MB of English text, one worker, settings as in `benchmarks.data_prep`. For a byte "
            f"of text {scattered / size:.2f} bytes of tokens between the passes and {kept / size:.2f} bytes of shards."
        ],
        quick=quick,
    )


if __name__ == "__main__":
    main()
