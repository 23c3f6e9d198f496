"""The manifest: one JSON that lists every shard of a directory and says how they were made.

It is written last and atomically, so a directory without a manifest is an unfinished one.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.atomic_file import write_atomically
from data_prep.shard_format import FORMAT_VERSION

MANIFEST_NAME = "manifest.json"
TRAIN, HELD_OUT = "train", "held_out"
TOKENIZER_FILES = {
    "wordpiece": ("tokenizer.json", "tokenizer_config.json", "vocab.txt"),
    "byte_bpe": ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    "unigram": ("tokenizer.json", "tokenizer_config.json"),
}
"""By `tokenizer.kind`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One shard: its tar's file name and what it holds; sizes in bytes, `index_*` for the block index beside it."""

    name: str
    blocks: int
    sequences: int
    instances: int
    tokens: int
    masked_tokens: int
    bytes: int
    sha256: str
    index_bytes: int
    index_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerInfo:
    """The tokenizer folder beside the shards: its path relative to the manifest, and what a model must match."""

    directory: str
    sha256: str  # of DIRECTORY/tokenizer.json
    vocab_size: int
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int | None = None  # None: the vocabulary has no such token


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a reader needs to know before it opens a shard."""

    format_version: int
    tokenizer: TokenizerInfo
    max_seq_length: int
    block_size: int
    column_dtypes: dict[str, str]
    config: dict[str, Any]  # the whole data_prep config, seed included
    statistics: dict[str, Any]
    splits: dict[str, list[ShardInfo]]  # "train" and, unless it is empty, "held_out"

    @property
    def tokenizer_files(self) -> tuple[str, ...]:
        """Names of the files in the tokenizer folder, by `tokenizer.kind`. Older manifests name none: WordPiece's.

        Raises ValueError for a kind of a later release.
        """
        kind = self.config.get("tokenizer", {}).get("kind", "wordpiece")
        if kind not in TOKENIZER_FILES:
            raise ValueError(
                f"the manifest says tokenizer.kind={kind}, and this release has {', '.join(TOKENIZER_FILES)}; "
                "prepare the shards with this release, or train with the release that wrote them"
            )
        return TOKENIZER_FILES[kind]

    def num_sequences(self, split: str) -> int:
        """Sequences in all shards of `split`."""
        return sum(shard.sequences for shard in self.splits[split])

    def to_json(self) -> str:
        """Return the text of `manifest.json`; the same manifest gives the same text."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, sort_keys=True) + "\n"

    def fingerprint(self) -> str:
        """Return the sha256 of the manifest's text: two directories with the same fingerprint hold the same bytes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def parse_manifest(text: str, source: str) -> Manifest:
    """Return the manifest in `text`; `source` names the file in errors (ValueError)."""
    try:
        values = json.loads(text)
        version = values["format_version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{source} is not a shard manifest ({error}); run data_prep again") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{source} has format version {version}, this release reads {FORMAT_VERSION}; "
            "prepare the shards with this release, or train with the release that wrote them"
        )
    try:
        return Manifest(
            **{
                **values,
                "tokenizer": TokenizerInfo(**values["tokenizer"]),
                "splits": {
                    split: [ShardInfo(**shard) for shard in shards] for split, shards in values["splits"].items()
                },
            }
        )
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{source} lacks fields of format version {version}: {error}") from error


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a local shard directory. Raises ValueError when there is none or it cannot be read."""
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise ValueError(
            f"{directory} has no {MANIFEST_NAME}: it is not a shard directory, or data_prep did not finish there; "
            "run the same `python -m data_prep` command again to finish it"
        )
    return parse_manifest(path.read_text(encoding="utf-8"), str(path))


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    write_atomically(directory / MANIFEST_NAME, manifest.to_json().encode())
