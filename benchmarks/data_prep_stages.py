"""`python -m benchmarks.data_prep_stages`: where the time of data_prep goes, stage by stage, on one worker."""

import contextlib
import io
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest.mock import patch

from benchmarks.corpora import ENGLISH, read_documents, shared_data, write_copies
from benchmarks.data_prep import seconds_of_tokenizers
from benchmarks.report import asks_for_quick, megabytes, print_report
from benchmarks.timeline import Span, lasted, timed
from conf.compose import compose
from data_prep import __main__ as entry
from data_prep import blocks, build, plan, tasks
from data_prep.config import DataPrepConfig
from data_prep.documents import clean_text
from data_prep.encoder import WordCacheEncoder
from data_prep.scatter import ScatterWriter
from data_prep.sentences import split_sentences
from data_prep.tokenizer import load_tokenizer

# Stage -> where the function that does it is looked up.
STAGES = {
    "scatter: clean-up": (tasks, "clean_text"),
    "scatter: sentences": (tasks, "split_sentences"),
    "scatter: tokens": (WordCacheEncoder, "encode"),
    "scatter: ids": (tasks, "document_id"),
    "scatter: sort and collect": (ScatterWriter, "add"),
    "build: read": (tasks, "read_bucket"),
    "build: pairs": (build, "make_pairs"),
    "build: masks": (blocks, "mask_block"),
    "build: instances": (blocks, "encode_pairs"),
}
PASSES = ("scatter", "build")


def main() -> None:
    """Time the stages of several runs and print the table."""
    quick = asks_for_quick(__doc__)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    texts = [text for name in ENGLISH for text in read_documents(name)]
    texts = texts[-20:] if quick else texts
    vocabulary = shared_data() / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    sentences = [sentence for text in texts for sentence in split_sentences(clean_text(text), "en")]
    runs: list[dict[str, float]] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        size = write_copies(texts, Path(folder) / "corpus", 1)
        for number in range(1 if quick else 5):
            alone.append(seconds_of_tokenizers(load_tokenizer(vocabulary, lowercase=True), sentences))
            stages = time_stages(Path(folder) / "corpus", Path(folder) / str(number), vocabulary)
            regroup = time_regroup(Path(folder) / "corpus", Path(folder) / f"groups-{number}", vocabulary)
            runs.append(stages | {"regroup (only of terabytes)": regroup})
    seconds = {stage: median(run[stage] for run in runs) for stage in runs[0]}
    rows = [[stage, f"{1e9 * value / size:.0f}", f"{size / value / 1e6:,.1f}"] for stage, value in seconds.items()]
    peer = median(alone)
    rows.append(["`tokenizers` alone, one thread", f"{1e9 * peer / size:.0f}", f"{size / peer / 1e6:,.1f}"])
    print_report(
        ["stage", "ms per MB", "MB/s"],
        rows,
        notes=[
            f"{megabytes(size)} MB of English text, settings as in `benchmarks.data_prep`, in one process; medians of "
            f"{len(runs)} runs. Rest of scatter: reading, merging segments, logs; rest of build: blocks, checksums, "
            "writing. `tokenizers`: `encode_batch_fast` on the same sentences, which data_prep's own tokens replace."
        ],
        quick=quick,
    )


def configure(corpus: Path, output_dir: Path, vocabulary: Path, *more: str) -> DataPrepConfig:
    """Return the config of a run."""
    overrides = [f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", "corpus.format=jsonl", "dupe_factor=1"]
    return compose("data_prep", DataPrepConfig, [*overrides, f"tokenizer.vocab_file={vocabulary}", *more])


def time_regroup(corpus: Path, output_dir: Path, vocabulary: Path) -> float:
    """Return the seconds of the pass that only very large corpora need, here forced on small buckets."""
    config = configure(corpus, output_dir, vocabulary, "executor.bucket_bytes=1000000")
    spans: list[Span] = []
    with (
        patch.object(plan, "choose_buckets_per_group", lambda **sizes: 4),
        timed(entry, "regroup", spans),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        entry.prepare(config)
    return sum(map(lasted, spans))


def time_stages(corpus: Path, output_dir: Path, vocabulary: Path) -> dict[str, float]:
    """Return the seconds of each stage of one run, of what is left of each pass, and of the whole."""
    config = configure(corpus, output_dir, vocabulary)
    spans: dict[str, list[Span]] = {name: [] for name in (*STAGES, *PASSES)}
    with ExitStack() as stack:
        for name, (owner, function) in STAGES.items():
            stack.enter_context(timed(owner, function, spans[name]))
        for name in PASSES:
            stack.enter_context(timed(entry, name, spans[name]))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        started = time.perf_counter()
        entry.prepare(config)
        whole = time.perf_counter() - started
    seconds = {name: sum(map(lasted, of_stage)) for name, of_stage in spans.items()}
    stages: dict[str, float] = {}
    for name in PASSES:
        own = {stage: seconds[stage] for stage in STAGES if stage.startswith(name)}
        stages |= own | {f"{name}: rest": seconds[name] - sum(own.values())}
    return stages | {"everything": whole}


if __name__ == "__main__":
    main()
