"""The tokenizer of a run: loaded, or trained once and kept; and its folder beside the shards."""

import time
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from data_prep.config import DataPrepConfig
from data_prep.corpus import CorpusFile
from data_prep.executors.progress import open_bar
from data_prep.manifest import TokenizerInfo
from data_prep.plan import text_bytes_of
from data_prep.tokenizer import (
    TOKENIZER_FOLDER,
    describe_tokenizer,
    load_tokenizer,
    save_tokenizer,
    wordpiece_tokenizer,
)
from data_prep.vocabulary import sample_texts, train_vocabulary
from data_prep.work_dir import tokenizer_key, work_dir


def load_vocabulary(config: DataPrepConfig) -> Tokenizer | None:
    """Return the tokenizer of `tokenizer.vocab_file`, None when a vocabulary is to be trained."""
    if config.tokenizer.vocab_file is None:
        return None
    return load_tokenizer(Path(config.tokenizer.vocab_file), lowercase=config.tokenizer.lowercase)


def train_or_reuse_tokenizer(config: DataPrepConfig, files: Sequence[CorpusFile]) -> Tokenizer:
    """Return a tokenizer trained on a sample of the corpus; kept in the work directory, so trained once."""
    folder = work_dir(config) / f"tokenizer-{tokenizer_key(config, files)}"
    if (folder / "tokenizer.json").is_file():
        print("vocabulary: already trained")
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    started = time.monotonic()
    sample_bytes = min(config.tokenizer.train_bytes, sum(map(text_bytes_of, files)))
    print(f"vocabulary: training WordPiece on at most {sample_bytes / 1e6:,.1f} MB of text ...", flush=True)
    texts = list(sample_texts(files, config.corpus, config.tokenizer.train_bytes))
    with open_bar("vocabulary", total=2 * sum(map(len, texts)), unit="chars") as bar:
        vocabulary = train_vocabulary(
            texts,
            vocab_size=config.tokenizer.vocab_size,
            lowercase=config.tokenizer.lowercase,
            on_read=bar.update,
        )
    print(f"vocabulary: {len(vocabulary):,} tokens in {time.monotonic() - started:.1f} s", flush=True)
    tokenizer = wordpiece_tokenizer(vocabulary, lowercase=config.tokenizer.lowercase, source="just trained")
    save_tokenizer(tokenizer, folder)
    return tokenizer


def install_tokenizer(tokenizer: Tokenizer, output_dir: Path) -> TokenizerInfo:
    """Write the tokenizer folder beside the shards and return what the manifest says of it."""
    save_tokenizer(tokenizer, output_dir / TOKENIZER_FOLDER)
    return describe_tokenizer(tokenizer)
