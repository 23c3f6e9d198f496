"""The second pass: the documents of one bucket -> finished shards of one copy. A pure function, to the byte."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.blocks import masked_blocks
from data_prep.config import DataPrepConfig
from data_prep.long_sentences import split_long_sentences
from data_prep.manifest import ShardInfo, TokenizerInfo
from data_prep.pairs import NUM_SPECIAL_TOKENS, make_next_sentence_pairs
from data_prep.seeds import generator, permutation
from data_prep.shard_format import column_dtypes
from data_prep.shard_writer import write_shards
from data_prep.tokenized import TokenizedDocuments, take_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What one build task made. Statistics are counts, so that those of all tasks can be added up."""

    shards: list[ShardInfo]
    statistics: dict[str, int]


def build_bucket(
    documents: TokenizedDocuments,
    *,
    split: str,
    copy: int,
    bucket: int,
    config: DataPrepConfig,
    tokenizer: TokenizerInfo,
    output_dir: Path,
) -> BuildResult:
    """Write the shards `SPLIT-COPY-BUCKET-PART.tar` of one bucket's documents, given in any order.

    The bytes depend on the set of documents, the config and the names only. A bucket without documents makes no shard.
    Raises OSError, naming file and remedy, when a shard cannot be written; nothing stays half-written.
    """
    task = (config.seed, "build", split, copy, bucket)
    documents, num_duplicates = sort_and_deduplicate(documents)
    counts = {
        "documents": len(documents.ids),
        "duplicate_documents": num_duplicates,
        "sentences": len(documents.sentence_lengths),
        "tokens_in_documents": len(documents.token_ids),
    }
    documents = take_documents(documents, permutation(len(documents.ids), *task, "documents"))
    max_seq_length = config.sequence.max_seq_length
    documents, counts["sentences_split"] = split_long_sentences(documents, max_seq_length - NUM_SPECIAL_TOKENS)
    pairs, pair_counts = make_next_sentence_pairs(
        documents,
        max_seq_length=max_seq_length,
        short_seq_prob=config.pairs.short_seq_prob,
        rng=generator(*task, "pairs"),
    )
    pairs = pairs.take(permutation(len(pairs), *task, "sequences"))
    blocks = masked_blocks(documents, pairs, config, tokenizer, generator(*task, "masks"))
    dtypes = column_dtypes(tokenizer.vocab_size, max_seq_length)
    stem = f"{split}-{copy:03d}-{bucket:05d}"
    shards = write_shards(blocks, output_dir, stem, dtypes, config.shards.shard_bytes)
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in ("sequences", "tokens", "masked_tokens")}
    return BuildResult(shards=shards, statistics=counts | pair_counts | sums)


def sort_and_deduplicate(documents: TokenizedDocuments) -> tuple[TokenizedDocuments, int]:
    """Return the documents sorted by id, the first of those with the same id only, and how many were dropped."""
    high, low = documents.ids.view(">u8").reshape(-1, 2).T
    order = np.lexsort((low, high))
    ids = documents.ids[order]
    is_first = np.ones(len(ids), dtype=np.bool_)
    is_first[1:] = ids[1:] != ids[:-1]
    return take_documents(documents, order[is_first]), int(np.sum(~is_first))
