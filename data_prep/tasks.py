"""The tasks that datatrove's executors run: scatter (texts -> tokens) and build (tokens -> shards)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from data_prep.atomic_file import write_atomically
from data_prep.build import BuildResult, build_bucket
from data_prep.config import DataPrepConfig, SentencesConfig
from data_prep.corpus_config import CorpusConfig
from data_prep.documents import clean_text, document_id
from data_prep.encoder import Encoder, encoder_of
from data_prep.filtering.clusters import remove_near_duplicates
from data_prep.filtering.filters import FilterStep
from data_prep.manifest import TRAIN, ShardInfo, TokenizerInfo
from data_prep.mixing import counts_of_source
from data_prep.plan import build_task
from data_prep.reading.readers import SOURCE, CorpusReader
from data_prep.regroup import ScatteredBuckets, place_documents, scatter_file
from data_prep.scatter import ScatterWriter, read_bucket
from data_prep.sentences import as_in_running_text, split_sentences
from data_prep.shard_format import index_name
from data_prep.tokenized import TokenizedDocuments

BATCH_CHARACTERS = 1_000_000


class ScatterStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """The last step of a scatter task: cleans, splits, tokenizes and writes the task's one file."""

    name = "Lambert scatter"

    def __init__(
        self, scattered: ScatteredBuckets, tokenizer_file: Path, corpus: CorpusConfig, sentences: SentencesConfig,
        reader: CorpusReader, filters: FilterStep,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scattered = scattered
        self.tokenizer_file = tokenizer_file
        self.names = [source.name for source in corpus.sources]
        self.languages = [source.language or sentences.language for source in corpus.sources] or [sentences.language]
        self.word_segmenter = sentences.word_segmenter
        self.reader = reader
        self.filters = filters

    def is_finished(self, rank: int) -> bool:
        """Return whether the task's file is there; it appears only when it is complete."""
        return scatter_file(self.scattered.scatter_dir, rank).is_file()

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        """Write the scatter file of task `rank` from the documents that the reader yields."""
        scattered = self.scattered
        encoder = encoder_of(self.tokenizer_file.read_text(encoding="utf-8"), self.word_segmenter)
        path = scatter_file(scattered.scatter_dir, rank)
        with ScatterWriter(path, scattered.num_groups, encoder.vocab_size) as writer:
            for source, texts in batch_texts((document.metadata[SOURCE], document.text) for document in data):
                documents, counts = tokenize_texts(texts, self.languages[source], encoder, source)
                writer.add(documents, place_documents(documents, scattered.buckets) // scattered.buckets_per_group)
                writer.count(counts)
                if self.names:
                    writer.count(counts_of_source(self.names[source], counts))
            writer.count(self.filters.counts)
            writer.count(self.reader.skipped.counts)
            writer.skipped = self.reader.skipped.places


class BuildStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A build task: one copy of one bucket, from where its documents lie to finished shards."""

    name = "Lambert build"

    def __init__(
        self, stage_dir: Path, scattered: ScatteredBuckets, config: DataPrepConfig, tokenizer: TokenizerInfo,
        per_copy: NDArray[np.float64],
    ) -> None:  # fmt: skip
        super().__init__()
        self.stage_dir = stage_dir
        self.scattered = scattered
        self.config = config
        self.tokenizer = tokenizer
        self.per_copy = per_copy
        self.output_dir = Path(config.output_dir).absolute()  # a task may run in another folder

    def is_finished(self, rank: int) -> bool:
        """Return whether the task's result is there and every shard it lists lies in the output directory, whole."""
        if not result_file(self.stage_dir, rank).is_file():
            return False
        shards = read_result(self.stage_dir, rank).shards
        return not missing_files(self.output_dir, shards)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shards of build task `rank`, then its result."""
        buckets = self.scattered.buckets
        task = build_task(rank, buckets, self.config.dupe_factor)
        bucket = task.bucket + (0 if task.split == TRAIN else buckets.train)
        near = self.config.corpus.near_duplicates is not None
        documents, dropped = read_distinct(self.scattered, bucket, near_duplicates=near)
        result = build_bucket(
            documents,
            split=task.split,
            copy=task.copy,
            bucket=task.bucket,
            config=self.config,
            tokenizer=self.tokenizer,
            output_dir=self.output_dir,
            per_copy=self.per_copy if task.split == TRAIN else np.ones_like(self.per_copy),
        )
        for name, count in dropped.items():
            result.statistics[name] = result.statistics.get(name, 0) + count
        path = result_file(self.stage_dir, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(result), indent=1).encode())


def read_distinct(
    scattered: ScatteredBuckets, bucket: int, *, near_duplicates: bool
) -> tuple[TokenizedDocuments, dict[str, int]]:
    """Return the documents of a bucket (counted over both splits) without duplicates, and how many were dropped.

    With `near_duplicates`, those that were found go too.
    """
    documents, num_duplicates = read_bucket(*scattered.locate(bucket))
    num_near = 0
    if near_duplicates:
        documents, num_near = remove_near_duplicates(documents, scattered.near_duplicates_dir, bucket)
    return documents, {"duplicate_documents": num_duplicates, "near_duplicate_documents": num_near}


def result_file(stage_dir: Path, rank: int) -> Path:
    """Return where build task `rank` puts its result."""
    return stage_dir / "results" / f"{rank:05d}.json"


def read_result(stage_dir: Path, rank: int) -> BuildResult:
    """Return the stored result of build task `rank`."""
    values = json.loads(result_file(stage_dir, rank).read_bytes())
    return BuildResult(shards=[ShardInfo(**shard) for shard in values["shards"]], statistics=dict(values["statistics"]))


def missing_files(directory: Path, shards: Iterable[ShardInfo]) -> list[str]:
    """Return the names of shard and index files that `directory` lacks or holds with another size."""
    wanted = [(shard.name, shard.bytes) for shard in shards]
    wanted += [(index_name(shard.name), shard.index_bytes) for shard in shards]
    return [name for name, size in wanted if not _has_size(directory / name, size)]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def batch_texts(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield (source, text) in order, as lists of one source's texts: a million characters or more, or its last ones."""
    for source, group in groupby(texts, key=itemgetter(0)):
        batch: list[str] = []
        characters = 0
        for _, text in group:
            batch.append(text)
            characters += len(text)
            if characters >= BATCH_CHARACTERS:
                yield source, batch
                batch, characters = [], 0
        if batch:
            yield source, batch


def tokenize_texts(
    texts: list[str], language: str, encoder: Encoder, source: int
) -> tuple[TokenizedDocuments, dict[str, int]]:
    """Return the raw texts of a source as tokenized documents, in order, and counts of what was read and left out.

    Left out: sentences without a token (such as a lone control character) and documents without a sentence.
    """
    cleaned = [clean_text(text) for text in texts]
    split = [split_sentences(text, language) for text in cleaned]
    if encoder.reads_spaces:
        split = list(map(as_in_running_text, cleaned, split))
    encoded = encoder.encode([sentence for sentences in split for sentence in sentences])
    lengths = encoded.lengths
    owners = np.repeat(np.arange(len(texts)), [len(sentences) for sentences in split])
    kept_sentences = np.bincount(owners[lengths > 0], minlength=len(texts))
    kept = np.flatnonzero(kept_sentences)
    ids = b"".join(document_id(cleaned[row]) for row in kept)
    documents = TokenizedDocuments(
        ids=np.frombuffer(ids, "V16"),
        sources=np.full(len(kept), source, dtype=np.uint8),
        document_sentences=kept_sentences[kept],
        sentence_lengths=lengths[lengths > 0],
        token_ids=encoded.token_ids,
        word_starts=encoded.word_starts,
    )
    counts = {
        "documents": len(texts),
        "empty_documents": len(texts) - len(kept),
        "empty_sentences": int((lengths == 0).sum()),
        "sentences": int((lengths > 0).sum()),
        "tokens": len(encoded.token_ids),
        "characters": sum(map(len, cleaned)),
    }
    return documents, counts
