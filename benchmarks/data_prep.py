"""`python -m benchmarks.data_prep`: raw text to finished shards, beside what `tokenizers` takes for the tokens."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer

from benchmarks.corpora import ENGLISH, read_documents, shared_data, write_copies
from benchmarks.footprint import status_bytes
from benchmarks.report import asks_for_quick, median_and_quartiles, megabytes, print_report
from conf.compose import compose
from data_prep.__main__ import prepare
from data_prep.config import DataPrepConfig
from data_prep.documents import clean_text
from data_prep.manifest import read_manifest
from data_prep.sentences import split_sentences
from data_prep.tokenizer import load_tokenizer

MANY_COPIES = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of data_prep in a process of its own."""

    seconds: float  # without the interpreter's start and its imports, as for `tokenizers`
    peak_bytes: int  # of resident memory, of the process that runs the tasks where there is one worker
    bytes_per_instance: float


def main() -> None:
    """Measure both in turn, then two workers and a corpus ten times as large; print the table."""
    quick = asks_for_quick(__doc__)
    rounds, copies = (2, 2) if quick else (5, MANY_COPIES)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    texts = [text for name in ENGLISH for text in read_documents(name)]
    texts = texts[-20:] if quick else texts
    vocabulary = shared_data() / "reference" / "vocab" / "bert-base-uncased-vocab.txt"
    tokenizer = load_tokenizer(vocabulary, lowercase=True)
    sentences = [sentence for text in texts for sentence in split_sentences(clean_text(text), "en")]
    with tempfile.TemporaryDirectory(prefix="lambert-benchmark-") as folder:
        once, many = Path(folder) / "once", Path(folder) / "many"
        size, large_size = write_copies(texts, once, 1), write_copies(texts, many, copies)
        alone: list[float] = []
        together: list[float] = []
        runs: dict[str, list[Measured]] = {"one": [], "many, one worker": [], "many, two workers": []}
        for number in range(rounds):
            alone.append(seconds_of_tokenizers(tokenizer, sentences))
            runs["one"].append(measure(once, Path(folder) / f"once-{number}", vocabulary, workers=1))
        for number in range(max(2, rounds // 2)):
            for workers, name in ((1, "many, one worker"), (2, "many, two workers")):
                runs[name].append(measure(many, Path(folder) / f"many-{number}-{workers}", vocabulary, workers))
            twins = [Path(folder) / f"twin-{number}-{which}" for which in range(2)]
            together.append(seconds_of_both(many, twins, vocabulary))
    print_report(
        ["", "text, MB", "MB/s", "peak memory, MB", "bytes per instance"],
        [
            ["`tokenizers`, `encode_batch_fast`", megabytes(size), rates(size, alone), "", ""],
            describe("data_prep, one worker", size, runs["one"]),
            describe(f"{copies} times the text, one worker", large_size, runs["many, one worker"]),
            describe(f"{copies} times the text, two workers", large_size, runs["many, two workers"]),
            [
                f"{copies} times the text twice, at once",
                megabytes(2 * large_size),
                rates(2 * large_size, together),
                "",
                "",
            ],
        ],
        notes=notes(alone, runs, together),
        quick=quick,
    )


def notes(alone: list[float], runs: dict[str, list[Measured]], together: list[float]) -> list[str]:
    """Return what follows from the table: ratios of medians."""
    one = median(run.seconds for run in runs["one"])
    single, double = (median(run.seconds for run in runs[name]) for name in list(runs)[1:])
    small, large = (max(run.peak_bytes for run in runs[name]) for name in list(runs)[:2])
    return [
        f"data_prep with one worker makes shards {median(alone) / one:.2f} times as fast as `tokenizers` on one thread "
        f"makes tokens of the same sentences; two workers are {single / double:.2f} times as fast as one, of "
        f"{2 * single / median(together):.2f} that two runs of one worker each have together on this machine, which "
        f"share nothing; the larger corpus takes {large / small:.2f} times the memory of the smaller.",
        "128 tokens, next-sentence pairs, static masks, dupe_factor 1, every other default; a published vocabulary of "
        "30,522. Medians (quartiles) of runs in turn, in processes of their own, without the interpreter's start.",
    ]


def describe(name: str, size: int, runs: list[Measured]) -> list[str]:
    """Return the row of one way of running data_prep."""
    peak = "" if "two" in name else megabytes(max(run.peak_bytes for run in runs))
    return [
        name,
        megabytes(size),
        rates(size, [run.seconds for run in runs]),
        peak,
        f"{runs[0].bytes_per_instance:.0f}",
    ]


def rates(size: int, seconds: list[float]) -> str:
    """Return median and quartiles of MB/s."""
    return median_and_quartiles([size / one / 1e6 for one in seconds], 2)


def seconds_of_tokenizers(tokenizer: Tokenizer, sentences: list[str]) -> float:
    """Return how long `tokenizers` takes for all sentences, one thread, in batches as it likes them."""
    started = time.perf_counter()
    for start in range(0, len(sentences), 5000):
        tokenizer.encode_batch_fast(sentences[start : start + 5000], add_special_tokens=False)
    return time.perf_counter() - started


def measure(corpus: Path, output_dir: Path, vocabulary: Path, workers: int, *settings: str) -> Measured:
    """Return what one run of data_prep, with more `settings` of its config, takes in a process of its own.

    Not one of multiprocessing's: the workers of the run would import this script again before they begin.
    """
    overrides = [
        *(f"output_dir={output_dir}", f"corpus.paths=[{corpus}]", "corpus.format=jsonl", "dupe_factor=1"),
        *(f"tokenizer.vocab_file={vocabulary}", f"executor.workers={workers}"),
        *settings,
    ]
    program = "import sys; from benchmarks.data_prep import print_measured; print_measured(sys.argv[1:])"
    finished = subprocess.run([sys.executable, "-c", program, *overrides], stdout=subprocess.PIPE, check=True)
    return Measured(**json.loads(finished.stdout))


def seconds_of_both(corpus: Path, output_dirs: list[Path], vocabulary: Path) -> float:
    """Return how long two runs of one worker each take at the same time, the slower one: what two cores can give."""
    with ThreadPoolExecutor(len(output_dirs)) as pool:
        runs = [pool.submit(measure, corpus, output_dir, vocabulary, 1) for output_dir in output_dirs]
        return max(run.result().seconds for run in runs)


def print_measured(overrides: list[str]) -> None:
    """Run data_prep in this process and print what it took as JSON."""
    config = compose("data_prep", DataPrepConfig, overrides)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(config)
    seconds = time.perf_counter() - started
    shards = [shard for split in read_manifest(Path(config.output_dir)).splits.values() for shard in split]
    measured = Measured(
        seconds=seconds,
        peak_bytes=status_bytes("VmHWM"),  # not ru_maxrss: that keeps what the parent had at the fork
        bytes_per_instance=sum(shard.bytes for shard in shards) / sum(shard.instances for shard in shards),
    )
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
