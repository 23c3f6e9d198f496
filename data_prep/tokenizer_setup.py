"""The tokenizer of a run: loaded, or trained once and kept; and its folder beside the shards."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from data_prep.added_words import add_words
from data_prep.config import DataPrepConfig, TokenizerConfig, TokenizerKind
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
from data_prep.vocabulary import sample_texts, train_byte_bpe, train_vocabulary
from data_prep.work_dir import tokenizer_key, work_dir

# Of the sample by the training. What is not here is not trained.
READINGS = {TokenizerKind.wordpiece: 2, TokenizerKind.byte_bpe: 1}


def load_vocabulary(config: DataPrepConfig) -> Tokenizer | None:
    """Return the tokenizer of `tokenizer.vocab_file` with the words of `tokenizer.add_words_file`, and print how many.

    None when a vocabulary is to be trained.
    """
    tokenizer = config.tokenizer
    if tokenizer.vocab_file is None:
        return None
    assert tokenizer.lowercase is not None, "TokenizerConfig replaces null"
    loaded = load_tokenizer(Path(tokenizer.vocab_file), lowercase=tokenizer.lowercase, kind=tokenizer.kind)
    if tokenizer.add_words_file is None:
        return loaded
    extended, known = add_words(loaded, Path(tokenizer.add_words_file))
    new = extended.get_vocab_size() - loaded.get_vocab_size()
    print(f"vocabulary: {new:,} new words from {tokenizer.add_words_file}; {known:,} were tokens already", flush=True)
    return extended


def train_or_reuse_tokenizer(config: DataPrepConfig, files: Sequence[CorpusFile]) -> Tokenizer:
    """Return a tokenizer trained on a sample of the corpus; kept in the work directory, so trained once."""
    folder = work_dir(config) / f"tokenizer-{tokenizer_key(config, files)}"
    if (folder / "tokenizer.json").is_file():
        print("vocabulary: already trained")
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    started = time.monotonic()
    sample_bytes = min(config.tokenizer.train_bytes, sum(map(text_bytes_of, files)))
    kind = config.tokenizer.kind
    print(f"vocabulary: training {kind.value} on at most {sample_bytes / 1e6:,.1f} MB of text ...", flush=True)
    texts = list(sample_texts(files, config.corpus, config.tokenizer.train_bytes))
    with open_bar("vocabulary", total=READINGS[kind] * sum(map(len, texts)), unit="chars") as bar:
        tokenizer = _train(config.tokenizer, texts, bar.update)
    print(f"vocabulary: {tokenizer.get_vocab_size():,} tokens in {time.monotonic() - started:.1f} s", flush=True)
    save_tokenizer(tokenizer, folder)
    return tokenizer


def _train(config: TokenizerConfig, texts: Sequence[str], on_read: Callable[[int], object]) -> Tokenizer:
    assert config.vocab_size is not None, "TokenizerConfig replaces null"
    assert config.lowercase is not None, "TokenizerConfig replaces null"
    if config.kind is TokenizerKind.byte_bpe:
        return train_byte_bpe(texts, vocab_size=config.vocab_size, on_read=on_read)
    vocabulary = train_vocabulary(texts, vocab_size=config.vocab_size, lowercase=config.lowercase, on_read=on_read)
    return wordpiece_tokenizer(vocabulary, lowercase=config.lowercase, source="just trained")


def install_tokenizer(tokenizer: Tokenizer, output_dir: Path) -> TokenizerInfo:
    """Write the tokenizer folder beside the shards and return what the manifest says of it."""
    save_tokenizer(tokenizer, output_dir / TOKENIZER_FOLDER)
    return describe_tokenizer(tokenizer)
