"""Finished shard directories for tests, made by the real build."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from conf.compose import compose, to_dict
from data_prep.build import BuildResult, build_bucket
from data_prep.config import DataPrepConfig
from data_prep.manifest import Manifest, ShardInfo, TokenizerInfo, write_manifest
from data_prep.shard_format import FORMAT_VERSION, Block, column_dtypes, concatenate_blocks
from data_prep.shard_reader import read_block, read_index
from data_prep.tokenized import TokenizedDocuments

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, 50)),
              *(f"##p{number}" for number in range(50, 60))]  # fmt: skip
TOKENIZER = TokenizerInfo(
    directory="tokenizer", sha256="", vocab_size=60, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1
)


def data_prep_config(*overrides: str) -> DataPrepConfig:
    """Return the default config with small blocks, and what else a test wants."""
    fixed = ["output_dir=unused", "corpus.paths=[unused]", "corpus.format=text", "shards.block_size=16"]
    return compose("data_prep", DataPrepConfig, [*fixed, "sequence.max_seq_length=64", *overrides])


def build(
    documents: TokenizedDocuments,
    output_dir: Path,
    *overrides: str,
    split: str = "train",
    copy: int = 0,
    bucket: int = 0,
    per_copy: NDArray[np.float64] | None = None,
) -> BuildResult:
    output_dir.mkdir(exist_ok=True)
    return build_bucket(
        documents, split=split, copy=copy, bucket=bucket, config=data_prep_config(*overrides), tokenizer=TOKENIZER,
        output_dir=output_dir, per_copy=np.ones(1) if per_copy is None else per_copy,
    )  # fmt: skip


def read_all(directory: Path) -> Block:
    """Return all shards of a directory as one block."""
    blocks = []
    for tar in sorted(directory.glob("*.tar")):
        with tar.open("rb") as file:
            blocks += [read_block(file, entry)[1] for entry in read_index(tar)]
    return concatenate_blocks(blocks)


def finish_directory(
    directory: Path,
    splits: dict[str, list[ShardInfo]],
    *overrides: str,
    statistics: dict[str, dict[str, int]] | None = None,
) -> Manifest:
    """Write the tokenizer and the manifest beside shards that `build` made with the same overrides."""
    config = data_prep_config(*overrides)
    tokenizer = Tokenizer(WordPiece({token: number for number, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    path = directory / TOKENIZER.directory / "tokenizer.json"
    path.parent.mkdir(exist_ok=True)
    tokenizer.save(str(path))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        tokenizer=TokenizerInfo(
            directory=TOKENIZER.directory, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), vocab_size=60,
            pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1,
        ),
        max_seq_length=config.sequence.max_seq_length,
        block_size=config.shards.block_size,
        column_dtypes=column_dtypes(60, config.sequence.max_seq_length),
        config=to_dict(config),
        statistics=statistics or {},
        splits=splits,
    )  # fmt: skip
    write_manifest(directory, manifest)
    return manifest
