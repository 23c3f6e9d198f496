"""The results of all tasks -> the manifest; and what an output directory already holds."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from conf.compose import flatten, to_dict
from data_prep.atomic_file import remove_unfinished
from data_prep.build import BuildResult
from data_prep.config import DataPrepConfig, TokenizerKind
from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusConfig, OnError
from data_prep.filtering.filters import DROPPED_BY
from data_prep.manifest import (
    HELD_OUT,
    MANIFEST_NAME,
    TRAIN,
    Manifest,
    ShardInfo,
    TokenizerInfo,
    read_manifest,
)
from data_prep.mixing import split_sources
from data_prep.plan import Plan, build_task, num_build_tasks
from data_prep.reading.unreadable import MAX_LISTED
from data_prep.scatter import read_counts, read_skipped
from data_prep.shard_format import FORMAT_VERSION, column_dtypes, index_name
from data_prep.tasks import missing_files, read_result

# Numbers are padded, not cut: bucket 100000 has six digits. The second form is an unfinished `atomic_file`.
_SHARD = rf"({TRAIN}|{HELD_OUT})-\d{{3,}}-\d{{5,}}-\d{{3,}}\.(tar|index\.npy)"
_NOTHING = {"documents": 0, "tokens": 0}
_SHARD_FILE = re.compile(rf"{_SHARD}|\.{_SHARD}\.\d+\.tmp")


def recorded_config(config: DataPrepConfig) -> dict[str, Any]:
    """Return the config as the manifest keeps it: without the output's place and the executor's cut.

    So the same command prepares the same manifest in any directory, by any number of workers. The places of the corpus
    and the vocabulary stay, to tell where the shards come from; `find_finished` compares contents instead.
    """
    recorded = to_dict(config)
    del recorded["output_dir"]
    recorded["executor"] = {"bucket_bytes": config.executor.bucket_bytes}
    return recorded


def describe_corpus(files: Sequence[CorpusFile]) -> dict[str, Any]:
    """Return the corpus as the manifest keeps it: how many files and bytes, and a sha256 over names and sizes.

    Names count from the files' common folder, so that a corpus may move. A file edited in place to the same size
    goes unnoticed here (its time would make the manifest depend on when the corpus was copied).
    """
    folders = [PurePosixPath(file.path).parent for file in files]
    above_all = (folder for folder in (folders[0], *folders[0].parents) if all(map(_below(folder), folders)))
    shared = next(above_all, PurePosixPath())  # URLs and local paths together have no common folder
    names = [f"{file.path.removeprefix(str(shared))}\t{file.size}\t{file.source}" for file in files]
    return {
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "sha256_of_names_and_sizes": sha256("\n".join(names).encode()).hexdigest(),
    }


def _below(folder: PurePosixPath) -> Callable[[PurePosixPath], bool]:
    return lambda path: path.is_relative_to(folder)


def find_finished(config: DataPrepConfig, files: Sequence[CorpusFile], tokenizer_sha256: str | None) -> Manifest | None:
    """Return the manifest of an output directory that already holds this config's shards, None for an unfinished one.

    `tokenizer_sha256` is that of a loaded vocabulary. Raises ValueError, naming the keys, when the directory holds
    finished shards of another config, corpus or vocabulary; a corpus or a vocabulary file that has only moved is the
    same. A shard or tokenizer file that is missing, or an altered tokenizer, makes it unfinished.
    """
    output_dir = Path(config.output_dir)
    if not (output_dir / MANIFEST_NAME).is_file():
        return None
    manifest = read_manifest(output_dir)
    differences = _differences(_without_places(manifest.config), _without_places(recorded_config(config)))
    if not differences and manifest.statistics["corpus"] != describe_corpus(files):
        differences = ["the files of corpus.paths have changed"]
    if tokenizer_sha256 not in (None, manifest.tokenizer.sha256):
        differences.append("the content of tokenizer.vocab_file has changed, or that of tokenizer.add_words_file")
    if differences:
        raise ValueError(
            f"{output_dir} holds finished shards of another config ({'; '.join(differences)}); "
            "choose another output_dir, or delete that directory"
        )
    return None if lost_files(output_dir, manifest) else manifest


def lost_files(output_dir: Path, manifest: Manifest) -> list[str]:
    """Return the shard and tokenizer files that are missing or not those of the manifest: shards by their sizes."""
    lost = [name for shards in manifest.splits.values() for name in missing_files(output_dir, shards)]
    folder = output_dir / manifest.tokenizer.directory
    for name in manifest.tokenizer_files:
        data = (folder / name).read_bytes() if (folder / name).is_file() else None
        is_altered = name == "tokenizer.json" and sha256(data or b"").hexdigest() != manifest.tokenizer.sha256
        if data is None or is_altered:
            lost.append(f"{manifest.tokenizer.directory}/{name}")
    return lost


def withdraw_manifest(output_dir: Path) -> None:
    """Remove the manifest of an output directory that is to be prepared again; print which files it has lost."""
    if not (output_dir / MANIFEST_NAME).is_file():
        return
    lost = lost_files(output_dir, read_manifest(output_dir))
    others = f" and {len(lost) - 1} other files" if len(lost) > 1 else ""
    print(f"{output_dir} has lost {lost[0]}{others}: preparing again what is missing")
    (output_dir / MANIFEST_NAME).unlink()


def _without_places(recorded: dict[str, Any]) -> dict[str, Any]:
    # Contents are compared apart: the corpus by `describe_corpus`, a vocabulary by the tokenizer's sha256.
    named = {name: "a file" if recorded["tokenizer"].get(name) else None for name in ("vocab_file", "add_words_file")}
    tokenizer = {"kind": TokenizerKind.wordpiece.value, **recorded["tokenizer"]}  # older releases had no other
    corpus = recorded["corpus"]
    sources = [{**source, "paths": None} for source in corpus.get("sources", [])]  # older releases had none
    return {
        **recorded,
        "corpus": {**corpus, "paths": None, "sources": sources},
        "tokenizer": {**tokenizer, **named},
    }


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    old, new = flatten(there), flatten(here)
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return [f"{key} is {old.get(key)!r} there and {new.get(key)!r} here" for key in keys]


def count_documents(scatter_files: Sequence[Path]) -> dict[str, int]:
    """Return the summed counts of all scatter files."""
    counts: Counter[str] = Counter()
    for path in scatter_files:
        counts.update(read_counts(path))
    return dict(counts)


def list_skipped(scatter_files: Sequence[Path]) -> list[str]:
    """Return the first 20 places of documents that could not be read and were left out, in the order of the corpus."""
    places: list[str] = []
    for path in scatter_files:
        places += read_skipped(path)
        if len(places) >= MAX_LISTED:
            break
    return places[:MAX_LISTED]


def check_skipped(corpus: CorpusConfig, skipped: Sequence[str]) -> None:
    """Raise ValueError when `on_error` is raise, yet finished tasks of an earlier run have left documents out."""
    if skipped and corpus.on_error is not OnError.skip:
        raise ValueError(
            f"corpus.on_error={corpus.on_error} is not valid here: work kept from an earlier run has left out what it "
            f"could not read, first {skipped[0]}; mend it, or set corpus.on_error=skip"
        )


def make_manifest(
    config: DataPrepConfig,
    *,
    files: Sequence[CorpusFile],
    counts: dict[str, int],
    skipped: Sequence[str],
    plan: Plan,
    tokenizer: TokenizerInfo,
    build_dir: Path,
    per_copy: Sequence[float],
) -> Manifest:
    """Return the manifest of all build results. Raises ValueError when they hold no train instance."""
    splits: dict[str, list[ShardInfo]] = {TRAIN: [], HELD_OUT: []}
    statistics: dict[str, Counter[str]] = {TRAIN: Counter(), HELD_OUT: Counter()}
    for rank in range(num_build_tasks(plan.buckets, config.dupe_factor)):
        task = build_task(rank, plan.buckets, config.dupe_factor)
        result = read_result(build_dir, rank)
        splits[task.split] += result.shards
        statistics[task.split].update(_of_copy(result, task.copy))
    read, sources = split_sources(counts)
    if not splits[TRAIN]:
        dropped = "".join(f", {count} {name}" for name, count in read.items() if name.startswith(DROPPED_BY))
        raise ValueError(
            f"the corpus gives no train instance: {counts.get('documents', 0)} documents, "
            f"{counts.get('sentences', 0)} sentences, {counts.get('skipped_documents', 0)} documents skipped{dropped}; "
            "give more text, check corpus.format and held_out_fraction, or loosen corpus.filters"
        )
    return Manifest(
        format_version=FORMAT_VERSION,
        tokenizer=tokenizer,
        max_seq_length=config.sequence.max_seq_length,
        block_size=config.shards.block_size,
        column_dtypes=column_dtypes(tokenizer.vocab_size, config.sequence.max_seq_length),
        config=recorded_config(config),
        statistics={
            "corpus": describe_corpus(files),
            "documents": read,
            "skipped": list(skipped),
            "sources": _describe_sources(
                {source.name: sources.get(source.name, _NOTHING) for source in config.corpus.sources},
                split_sources(statistics[TRAIN])[1],
                per_copy,
            ),
            **{split: split_sources(counter)[0] for split, counter in statistics.items() if splits[split]},
        },
        splits={split: shards for split, shards in splits.items() if shards},
    )


def _describe_sources(
    read: Mapping[str, Mapping[str, int]], taken: Mapping[str, Mapping[str, int]], per_copy: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Return per source what was read, how often each copy takes it, and what the train split has taken of it."""
    total = max(sum(counts["tokens"] for counts in taken.values()), 1)
    return {
        name: {
            **counts,
            "per_copy": uses,
            "train_documents": taken.get(name, {}).get("documents", 0),
            "train_tokens": taken.get(name, {}).get("tokens", 0),
            "train_token_share": taken.get(name, {}).get("tokens", 0) / total,
        }
        for (name, counts), uses in zip(read.items(), per_copy, strict=False)  # without sources there is one anonymous
    }


def _of_copy(result: BuildResult, copy: int) -> dict[str, int]:
    # What describes the documents is the same in every copy and counted once.
    once = (
        "documents", "duplicate_documents", "near_duplicate_documents", "sentences", "sentences_split",
        "tokens_in_documents",
    )  # fmt: skip
    return {name: value for name, value in result.statistics.items() if copy == 0 or name not in once}


def remove_leftovers(output_dir: Path, manifest: Manifest) -> None:
    """Remove shard files that the manifest does not list, and unfinished files: interrupted runs left them."""
    listed = {shard.name for shards in manifest.splits.values() for shard in shards}
    listed |= {index_name(name) for name in listed}
    for path in output_dir.iterdir():
        if _SHARD_FILE.fullmatch(path.name) and path.name not in listed:
            path.unlink()
    remove_unfinished(output_dir, [MANIFEST_NAME])
    remove_unfinished(output_dir / manifest.tokenizer.directory, manifest.tokenizer_files)
