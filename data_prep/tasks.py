"""The tasks that datatrove's executors run: scatter (texts -> tokens) and build (tokens -> shards)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from tokenizers import Tokenizer

from data_prep.atomic_file import write_atomically
from data_prep.build import BuildResult, build_bucket
from data_prep.config import DataPrepConfig
from data_prep.documents import Buckets, clean_text, document_id, place_document
from data_prep.manifest import TRAIN, ShardInfo, TokenizerInfo
from data_prep.plan import build_task
from data_prep.scatter import ScatterWriter, read_bucket
from data_prep.sentences import split_sentences
from data_prep.shard_format import index_name
from data_prep.tokenized import TokenizedDocuments
from data_prep.tokenizer import Encoder, make_encoder

BATCH_CHARACTERS = 1_000_000


class ScatterStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """The last step of a scatter task: cleans, splits, tokenizes and writes the task's one file."""

    name = "Lambert scatter"

    def __init__(self, stage_dir: Path, tokenizer_file: Path, language: str, buckets: Buckets) -> None:
        super().__init__()
        self.stage_dir = stage_dir
        self.tokenizer_file = tokenizer_file
        self.language = language
        self.buckets = buckets

    def is_finished(self, rank: int) -> bool:
        """Return whether the task's file is there; it appears only when it is complete."""
        return scatter_file(self.stage_dir, rank).is_file()

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        """Write the scatter file of task `rank` from the documents that the reader yields."""
        encoder = make_encoder(Tokenizer.from_file(str(self.tokenizer_file)))
        vocab_size = len(encoder.continues_word)
        with ScatterWriter(scatter_file(self.stage_dir, rank), self.buckets.total, vocab_size) as writer:
            for texts in batch_texts(document.text for document in data):
                documents, counts = tokenize_texts(texts, self.language, encoder)
                places = [place_document(identifier.tobytes(), self.buckets) for identifier in documents.ids]
                writer.add(documents, np.array(places, dtype=np.int64))
                writer.count(counts)


class BuildStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """A build task: one copy of one bucket, from its ranges in every scatter file to finished shards."""

    name = "Lambert build"

    def __init__(
        self, stage_dir: Path, scatter_dir: Path, num_scatter_files: int, buckets: Buckets, config: DataPrepConfig,
        tokenizer: TokenizerInfo,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stage_dir = stage_dir
        self.scatter_dir = scatter_dir
        self.num_scatter_files = num_scatter_files
        self.buckets = buckets
        self.config = config
        self.tokenizer = tokenizer

    def is_finished(self, rank: int) -> bool:
        """Return whether the task's result is there and every shard it lists lies in the output directory, whole."""
        if not result_file(self.stage_dir, rank).is_file():
            return False
        shards = read_result(self.stage_dir, rank).shards
        return not missing_files(Path(self.config.output_dir), shards)

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shards of build task `rank`, then its result."""
        task = build_task(rank, self.buckets, self.config.dupe_factor)
        bucket = task.bucket + (0 if task.split == TRAIN else self.buckets.train)
        files = [scatter_file(self.scatter_dir, number) for number in range(self.num_scatter_files)]
        documents, num_duplicates = read_bucket(files, bucket)
        result = build_bucket(
            documents,
            split=task.split,
            copy=task.copy,
            bucket=task.bucket,
            config=self.config,
            tokenizer=self.tokenizer,
            output_dir=Path(self.config.output_dir),
        )
        result.statistics["duplicate_documents"] += num_duplicates
        path = result_file(self.stage_dir, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(result), indent=1).encode())


def scatter_file(stage_dir: Path, rank: int) -> Path:
    """Return where scatter task `rank` puts its file."""
    return stage_dir / f"{rank:05d}.scatter"


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


def batch_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in order, in lists of at least a million characters (the last one may have fewer)."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def tokenize_texts(texts: list[str], language: str, encoder: Encoder) -> tuple[TokenizedDocuments, dict[str, int]]:
    """Return the raw texts as tokenized documents, in order, and counts of what was read and what was left out.

    Left out: sentences without a token (such as a lone control character) and documents without a sentence.
    """
    cleaned = [clean_text(text) for text in texts]
    split = [split_sentences(text, language) for text in cleaned]
    token_ids, lengths = encoder.encode([sentence for sentences in split for sentence in sentences])
    owners = np.repeat(np.arange(len(texts)), [len(sentences) for sentences in split])
    kept_sentences = np.bincount(owners[lengths > 0], minlength=len(texts))
    kept = np.flatnonzero(kept_sentences)
    ids = b"".join(document_id(cleaned[row]) for row in kept)
    documents = TokenizedDocuments(
        ids=np.frombuffer(ids, "V16"),
        document_sentences=kept_sentences[kept],
        sentence_lengths=lengths[lengths > 0],
        token_ids=token_ids,
        word_starts=encoder.word_starts(token_ids),
    )
    counts = {
        "documents": len(texts),
        "empty_documents": len(texts) - len(kept),
        "empty_sentences": int((lengths == 0).sum()),
        "sentences": int((lengths > 0).sum()),
        "tokens": len(token_ids),
        "characters": sum(map(len, cleaned)),
    }
    return documents, counts
