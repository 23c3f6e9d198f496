"""What data_prep tells its user: the plan before, the result after."""

from collections.abc import Mapping, Sequence

from data_prep.config import DataPrepConfig, PairKind
from data_prep.corpus_config import CorpusConfig
from data_prep.filtering.filters import DROPPED_BY
from data_prep.manifest import HELD_OUT, MANIFEST_NAME, TRAIN, Manifest, ShardInfo
from data_prep.plan import Plan, num_build_tasks, range_warning
from data_prep.work_dir import folder_bytes, work_dir


def describe_plan(plan: Plan, config: DataPrepConfig) -> str:
    """Return the plan in a few lines, with advice when it reads many small ranges."""
    buckets = plan.buckets
    lines = [
        f"corpus     {plan.num_files:,} files, {_megabytes(plan.corpus_bytes)}",
        f"scatter    {len(plan.tasks):,} tasks, {config.executor.workers} at a time",
        f"buckets    {buckets.train:,} train, {buckets.held_out:,} held out; ranges of about "
        f"{_megabytes(plan.range_bytes)}",
        f"build      {num_build_tasks(buckets, config.dupe_factor):,} tasks: {config.dupe_factor} copies of the train "
        "buckets, the held-out ones once",
    ]
    if plan.buckets_per_group > 1:
        lines.insert(-1, f"regroup    {plan.num_groups:,} tasks of {plan.buckets_per_group:,} buckets each")
    warnings = [range_warning(plan), *_warn_of_languages(config.corpus)]
    return "\n".join([*lines, *(f"warning    {warning}" for warning in warnings if warning)])


def describe_result(manifest: Manifest, config: DataPrepConfig, seconds: float | None) -> str:
    """Return what was made, where it lies, and the next commands; `seconds` of this run, None if it made nothing."""
    documents = manifest.statistics["documents"]
    train = manifest.statistics[TRAIN]
    held_out = manifest.statistics.get(HELD_OUT, {})
    shards = [shard for split in manifest.splits.values() for shard in split]
    duplicates = train["duplicate_documents"] + held_out.get("duplicate_documents", 0)
    size = sum(shard.bytes + shard.index_bytes for shard in shards)
    work = work_dir(config)
    lines = [
        f"documents  {documents['documents']:,} read, {documents['empty_documents']:,} empty, "
        f"{duplicates:,} duplicates dropped",
        f"sentences  {documents['sentences']:,}, {documents['tokens']:,} tokens, "
        f"vocabulary of {manifest.tokenizer.vocab_size:,}",
        f"train      {_describe_split(manifest.splits[TRAIN], train)}, {config.dupe_factor} copies of each",
        f"held out   {_describe_split(manifest.splits.get(HELD_OUT, []), held_out)}",
        f"shards     {len(shards):,} files, {_megabytes(size)} in {config.output_dir}"
        + (f", {seconds:.1f} s" if seconds is not None else ""),
    ]
    if warning := _warn_of_held_out(held_out.get("documents", 0), config):
        lines.append(f"warning    {warning}")
    if skipped := _describe_skipped(documents, manifest.statistics["skipped"]):
        lines.insert(1, f"skipped    {skipped}")
    if left_out := _describe_left_out(documents, train, held_out):
        lines.insert(1, f"left out   {left_out}")
    lines += [_describe_source(name, counts) for name, counts in manifest.statistics["sources"].items()]
    if work.is_dir():
        lines.append(
            f"kept       {_megabytes(folder_bytes(work))} of tokenized text in {work}: other sequence lengths reuse it "
            f"(executor.work_dir={work}); delete it when you need no more"
        )
    lines += [
        "",
        f"look       python -m data_prep.show {config.output_dir}",
        f"train      torchrun --nproc-per-node 2 -m pretrain shards_dir={config.output_dir} run_dir=RUN_DIR",
    ]
    return "\n".join(lines)


def _warn_of_languages(corpus: CorpusConfig) -> list[str]:
    """Return advice for every language that several sources name where an exponent weighs sources."""
    if corpus.exponent in (None, 1):
        return []
    names: dict[str, list[str]] = {}
    for source in corpus.sources:
        if source.language is not None:
            names.setdefault(source.language, []).append(source.name)
    return [
        f"corpus.exponent={corpus.exponent} weighs each source by itself, and {', '.join(several)} are all of "
        f"language={language}: a language is weighed by its own size as one source with all their paths"
        for language, several in names.items()
        if len(several) > 1
    ]


def _warn_of_held_out(documents: int, config: DataPrepConfig) -> str:
    """Return advice when the held-out split that was asked for is too small for a random B; else nothing."""
    wanted = 1 if config.pairs.kind is PairKind.none else 2
    if documents >= wanted or not config.held_out_fraction:
        return ""
    return (
        f"{documents} held-out documents cannot evaluate a model: raise held_out_fraction={config.held_out_fraction}, "
        "or give more and shorter documents"
    )


def _describe_source(name: str, counts: Mapping[str, float]) -> str:
    return (
        f"source     {name}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, each taken "
        f"{counts['per_copy']:.3g} times a copy: {counts['train_token_share']:.2%} of the train tokens"
    )


def _describe_skipped(documents: Mapping[str, int], places: Sequence[str]) -> str:
    """Return how many documents could not be read, why, and where the first is; nothing when there were none."""
    if not places:
        return ""
    prefix = "skipped_"
    reasons = [
        f"{count:,} {name.removeprefix(prefix)}"
        for name, count in sorted(documents.items())
        if name.startswith(prefix) and name != "skipped_documents"
    ]
    return (
        f"{documents['skipped_documents']:,} that could not be read ({', '.join(reasons)}), "
        f"listed in {MANIFEST_NAME}; the first: {places[0]}"
    )


def _describe_left_out(documents: Mapping[str, int], train: Mapping[str, int], held_out: Mapping[str, int]) -> str:
    """Return how many documents each filter dropped, and how many near duplicates; nothing when there were none."""
    dropped = [
        f"{count:,} by {name.removeprefix(DROPPED_BY)}"
        for name, count in documents.items()
        if name.startswith(DROPPED_BY)
    ]
    near = train["near_duplicate_documents"] + held_out.get("near_duplicate_documents", 0)
    return ", ".join([*dropped, f"{near:,} near duplicates"] if near else dropped)


def _describe_split(shards: list[ShardInfo], statistics: Mapping[str, int]) -> str:
    instances = sum(shard.instances for shard in shards)
    tokens = sum(shard.tokens for shard in shards)
    return f"{statistics.get('documents', 0):,} documents, {instances:,} instances, {tokens:,} tokens"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
