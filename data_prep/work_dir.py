"""Where unfinished work lies, under keys that change with all it depends on, so that none of it is ever stale."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conf.compose import fingerprint, to_dict
from data_prep.atomic_file import write_atomically
from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusConfig, CorpusFormat
from data_prep.plan import Plan
from data_prep.shard_format import FORMAT_VERSION

WORK_FOLDER = ".work"

# Raise it when documents, sentences, tokens or the scatter file change their meaning: older work is then redone.
SCATTER_VERSION = 2

# Raise it when pairs, masks or the layout of shards change: finished build tasks of an older release are then redone.
BUILD_VERSION = 2

# What the keys of read and tokenized text leave out: files are listed one by one; a task that finishes under
# `on_error=raise` has read all there is, as it does under `skip` (`finish.check_skipped` looks at the other way round);
# weights count in build.
UNNAMED = ("paths", "on_error", "exponent", "weight")

# Packages that datatrove's word tokenizers of single languages call, and the dictionary of one of them.
WORD_TOKENIZERS = (
    "spacy", "jieba", "pyvi", "sudachipy", "sudachidict-core", "stanza", "pythainlp", "indic-nlp-library", "kiwipiepy",
    "khmer-nltk", "laonlp", "botok", "pyidaungsu-numpy2",
)  # fmt: skip


def work_dir(config: DataPrepConfig) -> Path:
    """Return the folder of tokenized text: `executor.work_dir`, or a hidden one inside the output directory."""
    return Path(config.executor.work_dir or Path(config.output_dir) / WORK_FOLDER).absolute()


def tokenizer_key(config: DataPrepConfig, files: Sequence[CorpusFile]) -> str:
    """Return the key of a vocabulary trained on this corpus."""
    return _key(
        _libraries("tokenizers", *_of_format(config.corpus)),
        [asdict(file) for file in files],
        {**_read_by(config.corpus), "filters": None, "near_duplicates": None},
        to_dict(config.tokenizer),
    )


def tokens_key(config: DataPrepConfig, files: Sequence[CorpusFile], plan: Plan, tokenizer_sha256: str) -> str:
    """Return the key of the tokenized corpus, whichever tasks made it."""
    return _key(
        _libraries("tokenizers", "sentencex", *([segmenter] if (segmenter := config.sentences.word_segmenter) else [])),
        _libraries(*_of_format(config.corpus), *_of_filters(config.corpus)),
        [asdict(file) for file in files],
        _read_by(config.corpus),
        to_dict(config.sentences),
        asdict(plan.buckets),
        tokenizer_sha256,
    )


def scatter_key(tokens: str, plan: Plan) -> str:
    """Return the key of the scatter files: the tokenized corpus as cut into these tasks and groups of buckets."""
    cuts = [[(part.start, part.stop) for part in parts] for parts in plan.tasks]
    return _key(tokens, cuts, plan.buckets_per_group)


def build_key(config: DataPrepConfig, tokens: str) -> str:
    """Return the key of the shards: the tokenized corpus and every config value that changes a byte of them."""
    parts = to_dict(config)
    names = ("seed", "dupe_factor", "held_out_fraction", "pairs", "masking", "sequence", "shards")
    # numpy keeps its bit streams between releases, but not what Generator's methods draw from them.
    mixing = [config.corpus.exponent, *(source.weight for source in config.corpus.sources)]
    named = {name: parts[name] for name in names}
    return _key(FORMAT_VERSION, BUILD_VERSION, _libraries("numpy"), tokens, named, mixing)


def _key(*parts: Any) -> str:
    return fingerprint({"version": SCATTER_VERSION, "parts": parts})[:16]


def _read_by(corpus: CorpusConfig) -> dict[str, Any]:
    """Return what of the config decides which texts are read and how, without where they are."""
    values = {key: value for key, value in to_dict(corpus).items() if key not in UNNAMED}
    sources = [{key: value for key, value in source.items() if key not in UNNAMED} for source in values["sources"]]
    return {**values, "sources": sources}


def _of_format(corpus: CorpusConfig) -> list[str]:
    """Return the libraries that decide what text a document has."""
    formats = [source.format for source in corpus.each_source()]
    of_warc = ["warcio", "trafilatura", "justext", "lxml", "lxml_html_clean"]
    return of_warc if CorpusFormat.warc in formats else []


def _of_filters(corpus: CorpusConfig) -> list[str]:
    """Return the libraries that decide which documents are left out."""
    if not corpus.filters and not corpus.near_duplicates:
        return []
    in_languages = any("language" in one.options for one in corpus.filters)
    return ["datatrove", "regex", *(filter(_is_installed, WORD_TOKENIZERS) if in_languages else [])]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _libraries(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def claim_build_dir(output_dir: Path, key: str) -> Path:
    """Return the folder of the build stage's results. Those of another key are removed first.

    Shards of two configs would overwrite each other in `output_dir`, so only one config's results may be there.
    """
    folder = output_dir / WORK_FOLDER / "build"
    key_file = folder / "key"
    if not key_file.is_file() or key_file.read_text() != key:
        key_file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_atomically(key_file, key.encode())
    return folder


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process while the block runs. Raises ValueError when another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another data_prep is at work in {folder}; wait for it, or choose another output_dir"
            ) from error
        yield


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
