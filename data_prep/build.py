"""The second pass: the documents of one bucket -> finished shards of one copy. A pure function, to the byte."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.blocks import make_blocks
from data_prep.config import DataPrepConfig
from data_prep.instances import instance_lengths
from data_prep.manifest import ShardInfo, TokenizerInfo
from data_prep.mixing import count_uses, counts_of_source, group_uses
from data_prep.packing import pack_sequences
from data_prep.pairing.objectives import make_pairs
from data_prep.pairing.pairs import SegmentPairs, concatenate_pairs
from data_prep.seeds import bit_generator, generator, permutation
from data_prep.shard_format import IntArray, column_dtypes
from data_prep.shard_writer import write_shards
from data_prep.tokenized import TokenizedDocuments, concatenate_documents, take_documents


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
    per_copy: NDArray[np.float64],
) -> BuildResult:
    """Write the shards `SPLIT-COPY-BUCKET-PART.tar` of one bucket's documents, given in any order.

    `per_copy`, [sources], says how often a document of each source is taken (`mixing`). The bytes depend on it, the set
    of documents, the config and the names only. A bucket without documents makes no shard.
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
    groups = group_uses(documents.sources, count_uses(documents.sources, per_copy, copy, bucket))
    documents, pairs, pair_counts = _pair_groups(documents, groups, config, task)
    counts["tokens_taken"] = len(documents.token_ids)
    for source, name in enumerate(one.name for one in config.corpus.sources):
        of_source = documents.document_tokens[documents.sources == source]
        counts |= counts_of_source(name, {"documents": len(of_source), "tokens": int(of_source.sum())})
    max_seq_length = config.sequence.max_seq_length
    sequences = pack_sequences(instance_lengths(pairs), max_seq_length, config.sequence.packing)
    sequences = sequences.take(permutation(len(sequences), *task, "sequences"))
    blocks = make_blocks(documents, pairs, sequences, config, tokenizer, bit_generator(*task, "masks"))
    dtypes = column_dtypes(tokenizer.vocab_size, max_seq_length)
    stem = f"{split}-{copy:03d}-{bucket:05d}"
    shards = write_shards(blocks, output_dir, stem, dtypes, config.shards.shard_bytes)
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in ("sequences", "tokens", "masked_tokens")}
    return BuildResult(shards=shards, statistics=counts | pair_counts | sums)


def _pair_groups(
    documents: TokenizedDocuments, groups: Sequence[IntArray], config: DataPrepConfig, task: tuple[int | str, ...]
) -> tuple[TokenizedDocuments, SegmentPairs, dict[str, int]]:
    """Return the documents of all groups, shuffled inside each, their pairs, and the summed counts.

    Instances stay inside a group, which has one source and no document twice: a random B is in A's language, and never
    from another use of A's document.
    """
    taken: list[TokenizedDocuments] = []
    pairs: list[SegmentPairs] = []
    counts: Counter[str] = Counter()
    for number, rows in enumerate(groups or [np.zeros(0, dtype=np.int64)]):
        taken.append(take_documents(documents, rows[permutation(len(rows), *task, "documents", number)]))
        of_group, counts_of_group = make_pairs(
            taken[-1],
            config.pairs,
            max_seq_length=config.sequence.max_seq_length,
            rng=generator(*task, "pairs", number),
        )
        pairs.append(of_group)
        counts.update(counts_of_group)
    offsets = np.cumsum([0, *(len(part.token_ids) for part in taken[:-1])])
    return concatenate_documents(taken), concatenate_pairs(pairs, offsets), dict(counts)


def sort_and_deduplicate(documents: TokenizedDocuments) -> tuple[TokenizedDocuments, int]:
    """Return the documents sorted by id, the first of those with the same id only, and how many were dropped."""
    high, low = documents.ids.view(">u8").reshape(-1, 2).T
    order = np.lexsort((low, high))
    ids = documents.ids[order]
    is_first = np.ones(len(ids), dtype=np.bool_)
    is_first[1:] = ids[1:] != ids[:-1]
    return take_documents(documents, order[is_first]), int(np.sum(~is_first))
