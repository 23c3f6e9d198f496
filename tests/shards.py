"""Small synthetic shard directories, written through the contract and nothing else."""

import hashlib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from data_prep.manifest import HELD_OUT, TRAIN, Manifest, ShardInfo, TokenizerInfo, read_manifest, write_manifest
from data_prep.shard_format import (
    END_OF_ARCHIVE,
    Block,
    checksum,
    column_dtypes,
    encode_block,
    encode_index,
    index_name,
)
from pretrain.data.order import PhaseOrder
from pretrain.data.reader import BlockReader, ShardDirectory

PAD, UNK, CLS, SEP, MASK = range(5)


def random_block(generator: np.random.Generator, *, sequences: int, vocab_size: int, max_length: int) -> Block:
    """Return single-instance sequences of 6 to `max_length` tokens: token i + 1 mostly follows from token i."""
    lengths = generator.integers(6, max_length + 1, sequences)
    segment_a = np.array([generator.integers(3, length - 1) for length in lengths])
    ids, positions, originals, counts = [], [], [], []
    for length, first in zip(lengths, segment_a, strict=True):
        start = generator.integers(5, vocab_size)
        row = 5 + (start + 3 * np.arange(length)) % (vocab_size - 5)
        row[0], row[first - 1], row[-1] = CLS, SEP, SEP
        maskable = np.setdiff1d(np.arange(1, length - 1), [first - 1])
        chosen = np.sort(generator.choice(maskable, max(1, len(maskable) // 6), replace=False))
        originals.append(row[chosen].copy())
        row[chosen] = MASK
        ids.append(row)
        positions.append(chosen)
        counts.append(len(chosen))
    return Block(
        input_ids=np.concatenate(ids),
        instance_lengths=lengths,
        segment_a_lengths=segment_a,
        sequence_instances=np.ones(sequences, dtype=np.int64),
        masked_lm_counts=np.array(counts),
        masked_lm_positions=np.concatenate(positions),
        masked_lm_ids=np.concatenate(originals),
        next_sentence_labels=generator.integers(0, 2, sequences),
    )


def write_shards(
    directory: Path,
    *,
    shards: int = 3,
    blocks: int = 2,
    block_size: int = 16,
    held_out_sequences: int = 24,
    vocab_size: int = 64,
    max_length: int = 24,
    seed: int = 0,
) -> Path:
    """Write a complete shard directory and return it. The same arguments give the same bytes."""
    directory.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    dtypes = column_dtypes(vocab_size, max_length)

    def shard(name: str, sizes: list[int]) -> ShardInfo:
        made = [random_block(generator, sequences=size, vocab_size=vocab_size, max_length=max_length) for size in sizes]
        data, rows = b"", []
        for number, block in enumerate(made):
            records = encode_block(block, f"{name}-{number:05d}", dtypes)
            rows.append((len(data), len(records), block.num_sequences, checksum(records)))
            data += records
        data += END_OF_ARCHIVE
        index = encode_index(rows)
        (directory / f"{name}.tar").write_bytes(data)
        (directory / index_name(f"{name}.tar")).write_bytes(index)
        return ShardInfo(
            name=f"{name}.tar",
            blocks=len(made),
            sequences=sum(sizes),
            instances=sum(block.num_instances for block in made),
            tokens=sum(block.num_tokens for block in made),
            masked_tokens=sum(block.num_masked for block in made),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            index_bytes=len(index),
            index_sha256=hashlib.sha256(index).hexdigest(),
        )

    # The last block of the last shard is short, as in real directories.
    sizes = [[block_size] * blocks for _ in range(shards)]
    sizes[-1][-1] = max(1, block_size - 5)
    splits = {TRAIN: [shard(f"train-000-{number:05d}-000", size) for number, size in enumerate(sizes)]}
    if held_out_sequences:
        splits[HELD_OUT] = [shard("held_out-000-00000-000", [held_out_sequences])]
    write_manifest(
        directory,
        Manifest(
            format_version=1,
            tokenizer=write_tokenizer(directory / "tokenizer", vocab_size),
            max_seq_length=max_length,
            block_size=block_size,
            column_dtypes=dtypes,
            config={"seed": seed, "pairs": {"kind": "nsp"}, "masking": {"kind": "static"}},
            statistics={"documents": 0},
            splits=splits,
        ),
    )
    return directory


def order_and_reader(
    shards: Path, *, num_streams: int = 6, global_batch_size: int = 12, seed: int = 3
) -> tuple[PhaseOrder, BlockReader]:
    """Return the order of a directory's train split, and a reader for all its streams."""
    splits = read_manifest(shards).splits
    order = PhaseOrder(
        seed=seed,
        phase=0,
        shard_sequences=tuple(shard.sequences for shard in splits[TRAIN]),
        num_streams=num_streams,
        global_batch_size=global_batch_size,
    )
    return order, BlockReader(ShardDirectory(str(shards)), splits[TRAIN], num_streams=num_streams)


def write_tokenizer(directory: Path, vocab_size: int) -> TokenizerInfo:
    """Write a WordPiece tokenizer over made-up words."""
    directory.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, vocab_size))]
    vocabulary = {word: number for number, word in enumerate(words)}
    Tokenizer(WordPiece(vocabulary, unk_token="[UNK]")).save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return TokenizerInfo(
        directory=directory.name,
        sha256=hashlib.sha256((directory / "tokenizer.json").read_bytes()).hexdigest(),
        vocab_size=vocab_size,
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        mask_id=MASK,
    )
