"""`python -m data_prep output_dir=DIR corpus.paths=[...] corpus.format=...`: corpus files -> shards."""

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from conf.compose import compose
from data_prep.atomic_file import remove_unfinished
from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile, list_files
from data_prep.corpus_config import CorpusConfig
from data_prep.executor import check_executor, run_stage
from data_prep.filters import FilterStep, make_filters
from data_prep.finish import (
    check_skipped,
    count_documents,
    find_finished,
    list_skipped,
    make_manifest,
    remove_leftovers,
    withdraw_manifest,
)
from data_prep.manifest import Manifest, TokenizerInfo, write_manifest
from data_prep.mixing import split_sources, uses_per_copy
from data_prep.near_duplicates import find_near_duplicates
from data_prep.plan import Plan, make_plan, num_build_tasks, text_bytes_of, write_tasks
from data_prep.progress import open_bar
from data_prep.readers import CorpusReader, check_format
from data_prep.regroup import RegroupStep, ScatteredBuckets
from data_prep.sentences import check_language
from data_prep.signatures import SignatureStep
from data_prep.slurm_jobs import cancel_leftovers
from data_prep.stage import TaskError
from data_prep.summary import describe_plan, describe_result
from data_prep.tasks import BuildStep, ScatterStep
from data_prep.tokenizer import (
    TOKENIZER_FOLDER,
    describe_tokenizer,
    load_tokenizer,
    save_tokenizer,
    wordpiece_tokenizer,
)
from data_prep.vocabulary import sample_texts, train_vocabulary
from data_prep.word_segmenter import check_segmenter
from data_prep.work_dir import (
    WORK_FOLDER,
    build_key,
    claim_build_dir,
    lock_folder,
    scatter_key,
    tokenizer_key,
    tokens_key,
    work_dir,
)


def main(arguments: Sequence[str]) -> int:
    """Run data_prep with `key=value` arguments; return the exit code: 0 done, 2 bad input, 1 failed, 130 stopped."""
    try:
        prepare(compose("data_prep", DataPrepConfig, arguments))
    except KeyboardInterrupt:
        print("data_prep: stopped; finished tasks are kept, the same command continues", file=sys.stderr)
        return 130
    except (ValueError, OSError, TaskError) as error:
        print(f"data_prep: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def prepare(config: DataPrepConfig) -> None:
    """Make the shards that `config` asks for, or say that they are there. Prints the plan and a summary."""
    started = time.monotonic()
    for source in config.corpus.each_source():
        check_format(source.format)
    for language in {config.sentences.language, *(source.language or "en" for source in config.corpus.sources)}:
        check_language(language)
    if config.sentences.word_segmenter:
        check_segmenter()
    make_filters(config.corpus.filters, config.sentences.language)  # a wrong option ends here, not in a task
    check_executor(config.executor)
    output_dir = Path(config.output_dir).absolute()
    files = list_files(config.corpus, exclude=[output_dir, work_dir(config)])
    loaded = load_vocabulary(config)
    if report_finished(config, files, loaded):
        return
    plan = make_plan(
        files,
        [source.format for source in config.corpus.each_source()],
        task_bytes=config.executor.task_bytes,
        bucket_bytes=config.executor.bucket_bytes,
        held_out_fraction=config.held_out_fraction,
    )
    print(describe_plan(plan, config), flush=True)
    with ExitStack() as locks:
        for folder in {work_dir(config).resolve(), (output_dir / WORK_FOLDER).resolve()}:
            locks.enter_context(lock_folder(folder))
            cancel_leftovers(folder)
        if report_finished(config, files, loaded):  # another process may have finished it before the lock was ours
            return
        manifest = make_shards(config, files, plan, loaded)
    print("\n" + describe_result(manifest, config, seconds=time.monotonic() - started))


def report_finished(config: DataPrepConfig, files: Sequence[CorpusFile], loaded: Tokenizer | None) -> bool:
    """Return whether the output directory already holds these shards, and print what it holds if so."""
    manifest = find_finished(config, files, describe_tokenizer(loaded).sha256 if loaded else None)
    if manifest is None:
        return False
    print(f"{config.output_dir} already holds these shards: nothing to do\n")
    print(describe_result(manifest, config, seconds=None))
    return True


def make_shards(config: DataPrepConfig, files: Sequence[CorpusFile], plan: Plan, loaded: Tokenizer | None) -> Manifest:
    """Run what is left of all passes, with `loaded` or a trained vocabulary; write the manifest last and return it."""
    output_dir = Path(config.output_dir).absolute()
    withdraw_manifest(output_dir)
    tokenizer = install_tokenizer(loaded or train_or_reuse_tokenizer(config, files), output_dir)
    tokens = tokens_key(config, files, plan, tokenizer.sha256)
    scattered = ScatteredBuckets(
        scatter_dir=work_dir(config) / f"scatter-{scatter_key(tokens, plan)}",
        num_tasks=len(plan.tasks),
        buckets=plan.buckets,
        buckets_per_group=plan.buckets_per_group,
    )
    scatter(config, plan, output_dir / TOKENIZER_FOLDER / "tokenizer.json", scattered)
    counts, skipped = count_documents(scattered.scatter_files), list_skipped(scattered.scatter_files)
    check_skipped(config.corpus, skipped)
    if near := config.corpus.near_duplicates:
        find_near_duplicates(scattered.near_duplicates_dir, near, buckets=plan.buckets, executor=config.executor)
    if scattered.buckets_per_group > 1:
        regroup(config, scattered, tokenizer)
    build_dir = claim_build_dir(output_dir, build_key(config, tokens))
    per_copy = weigh_sources(config.corpus, counts)
    build(config, scattered, tokenizer, build_dir, per_copy)
    manifest = make_manifest(
        config,
        files=files,
        counts=counts,
        skipped=skipped,
        plan=plan,
        tokenizer=tokenizer,
        build_dir=build_dir,
        per_copy=per_copy.tolist(),
    )
    remove_leftovers(output_dir, manifest)
    write_manifest(output_dir, manifest)
    return manifest


def load_vocabulary(config: DataPrepConfig) -> Tokenizer | None:
    """Return the tokenizer of `tokenizer.vocab_file`, None when a vocabulary is to be trained."""
    if config.tokenizer.vocab_file is None:
        return None
    return load_tokenizer(Path(config.tokenizer.vocab_file), lowercase=config.tokenizer.lowercase)


def train_or_reuse_tokenizer(config: DataPrepConfig, files: Sequence[CorpusFile]) -> Tokenizer:
    """Return a tokenizer trained on a sample of the corpus; kept in the work directory, so trained once."""
    folder = work_dir(config) / f"tokenizer-{tokenizer_key(config, files)}"
    if (folder / "tokenizer.json").is_file():
        print("vocabulary: already trained")
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    started = time.monotonic()
    sample_bytes = min(config.tokenizer.train_bytes, sum(map(text_bytes_of, files)))
    print(f"vocabulary: training WordPiece on at most {sample_bytes / 1e6:,.1f} MB of text ...", flush=True)
    texts = list(sample_texts(files, config.corpus, config.tokenizer.train_bytes))
    with open_bar("vocabulary", total=2 * sum(map(len, texts)), unit="chars") as bar:
        vocabulary = train_vocabulary(
            texts,
            vocab_size=config.tokenizer.vocab_size,
            lowercase=config.tokenizer.lowercase,
            on_read=bar.update,
        )
    print(f"vocabulary: {len(vocabulary):,} tokens in {time.monotonic() - started:.1f} s", flush=True)
    tokenizer = wordpiece_tokenizer(vocabulary, lowercase=config.tokenizer.lowercase, source="just trained")
    save_tokenizer(tokenizer, folder)
    return tokenizer


def install_tokenizer(tokenizer: Tokenizer, output_dir: Path) -> TokenizerInfo:
    """Write the tokenizer folder beside the shards and return what the manifest says of it."""
    save_tokenizer(tokenizer, output_dir / TOKENIZER_FOLDER)
    return describe_tokenizer(tokenizer)


def scatter(config: DataPrepConfig, plan: Plan, tokenizer_file: Path, scattered: ScatteredBuckets) -> None:
    """Run the first pass: one scatter file a task."""
    scatter_dir = scattered.scatter_dir
    scatter_dir.mkdir(parents=True, exist_ok=True)
    remove_unfinished(scatter_dir)  # a killed run leaves files of gigabytes under names that no rerun writes again
    write_tasks(scatter_dir, plan.tasks)
    # The work directory may serve other output directories later: its tasks use their own copy.
    own_tokenizer = scatter_dir / "tokenizer.json"
    shutil.copyfile(tokenizer_file, own_tokenizer)
    near_duplicates = config.corpus.near_duplicates
    reader = CorpusReader(scatter_dir, config.corpus)
    filters = FilterStep(config.corpus.filters, config.sentences.language)
    run_stage(
        "scatter",
        [
            reader,
            *([filters] if config.corpus.filters or near_duplicates else []),
            *([SignatureStep(scattered.near_duplicates_dir, near_duplicates)] if near_duplicates else []),
            ScatterStep(scattered, own_tokenizer, config.corpus, config.sentences, reader, filters),
        ],
        stage_dir=scatter_dir,
        config=config.executor,
        task_sizes=[sum(part.size for part in parts) for parts in plan.tasks],
        unit="B",
    )


def regroup(config: DataPrepConfig, scattered: ScatteredBuckets, tokenizer: TokenizerInfo) -> None:
    """Run the pass between: one file a group of buckets."""
    scattered.regroup_dir.mkdir(parents=True, exist_ok=True)
    remove_unfinished(scattered.regroup_dir)
    run_stage(
        "regroup",
        [RegroupStep(scattered, tokenizer.vocab_size)],
        stage_dir=scattered.regroup_dir,
        config=config.executor,
        task_sizes=[1] * scattered.num_groups,
        unit=" tasks",
    )


def weigh_sources(corpus: CorpusConfig, counts: dict[str, int]) -> NDArray[np.float64]:
    """Return how often a document of each source is taken in one copy, by the tokens that were read."""
    if not corpus.sources:
        return np.ones(1)
    read = split_sources(counts)[1]
    tokens = [read.get(source.name, {}).get("tokens", 0) for source in corpus.sources]
    weights = [source.weight for source in corpus.sources if source.weight is not None]
    return uses_per_copy(tokens, weights or None, corpus.exponent)


def build(
    config: DataPrepConfig, scattered: ScatteredBuckets, tokenizer: TokenizerInfo, build_dir: Path,
    per_copy: NDArray[np.float64],
) -> None:  # fmt: skip
    """Run the last pass: the shards of every copy of every bucket."""
    run_stage(
        "build",
        [BuildStep(build_dir, scattered, config, tokenizer, per_copy)],
        stage_dir=build_dir,
        config=config.executor,
        task_sizes=[1] * num_build_tasks(scattered.buckets, config.dupe_factor),
        unit=" tasks",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
