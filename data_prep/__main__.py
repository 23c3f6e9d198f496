"""`python -m data_prep output_dir=DIR corpus.paths=[...] corpus.format=...`: corpus files -> shards."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tokenizers import Tokenizer

from conf.compose import compose
from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile, list_files
from data_prep.executors.executor import check_executor
from data_prep.executors.slurm_jobs import cancel_leftovers
from data_prep.executors.stage import TaskError
from data_prep.filtering.filters import make_filters
from data_prep.filtering.near_duplicates import find_near_duplicates
from data_prep.finish import (
    check_skipped,
    count_documents,
    find_finished,
    list_skipped,
    make_manifest,
    remove_leftovers,
    withdraw_manifest,
)
from data_prep.manifest import Manifest, write_manifest
from data_prep.passes import build, regroup, scatter, weigh
from data_prep.plan import Plan, make_plan
from data_prep.reading.readers import check_format
from data_prep.regroup import ScatteredBuckets
from data_prep.sentences import check_language
from data_prep.summary import describe_plan, describe_result
from data_prep.tokenizer import TOKENIZER_FOLDER, describe_tokenizer
from data_prep.tokenizer_setup import install_tokenizer, load_vocabulary, train_or_reuse_tokenizer
from data_prep.word_segmenter import check_segmenter
from data_prep.work_dir import WORK_FOLDER, build_key, claim_build_dir, lock_folder, scatter_key, tokens_key, work_dir


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
    check_language(config.sentences.language)
    for named in config.corpus.sources:
        if named.language:
            check_language(named.language, f"corpus.sources.{named.name}.language")
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
    per_copy = weigh(config, scattered)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
