"""`python -m benchmarks.tokens`: sentences to tokens by both kinds of tokenizer, beside `tokenizers` alone."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tokenizers import Tokenizer

from benchmarks.corpora import ENGLISH, read_documents, shared_data
from benchmarks.data_prep import seconds_of_tokenizers
from benchmarks.report import asks_for_quick, median_and_quartiles, megabytes, print_report
from data_prep.byte_encoder import ByteEncoder
from data_prep.documents import clean_text
from data_prep.encoder import Encoder, WordCacheEncoder, make_encoder
from data_prep.sentences import as_in_running_text, split_sentences
from data_prep.tokenizer import load_tokenizer
from data_prep.vocabulary import train_byte_bpe

CHINESE = ("zh_classic_novels",)
BATCH = 5000  # sentences
VOCAB_SIZE = 50265
CHARACTERS = 6_000_000  # of each language


def main() -> None:
    """Measure all sides in turn and print the table."""
    quick = asks_for_quick(__doc__)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    size = 100_000 if quick else CHARACTERS
    texts = {"English": list(_cut(ENGLISH, size)), "Chinese": list(_cut(CHINESE, size))}
    vocabularies = shared_data() / "reference" / "vocab"
    byte_bpe = train_byte_bpe([*texts["English"], *texts["Chinese"]], vocab_size=VOCAB_SIZE, on_read=lambda read: None)
    rows = []
    for language, code, name in (("English", "en", "uncased"), ("Chinese", "zh", "chinese")):
        vocabulary = vocabularies / f"bert-base-{name}-vocab.txt"
        split = [split_sentences(text, code) for text in texts[language]]
        sentences = [sentence for of_text in split for sentence in of_text]
        in_texts = map(as_in_running_text, texts[language], split)
        spaced = [sentence for of_text in in_texts for sentence in of_text]
        rows.append(row(f"WordPiece, {language}", load_tokenizer(vocabulary, lowercase=True), sentences, quick))
        rows.append(row(f"byte-level BPE, {language}", byte_bpe, spaced, quick))
    print_report(
        ["", "text, MB", "`tokenizers`, MB/s", "data_prep, MB/s", "ratio", "without the word cache, ratio"],
        rows,
        notes=[
            "One thread. `tokenizers`: `encode_batch_fast`, whose ids nobody reads; data_prep gives arrays of ids and "
            "word starts, from an empty cache each time. Medians (quartiles) of runs in turn; ratios of the pairs. "
            f"Published WordPiece vocabularies; {byte_bpe.get_vocab_size():,} byte-level tokens learnt from the texts."
        ],
        quick=quick,
    )


def _cut(names: Sequence[str], size: int) -> Iterator[str]:
    """Yield cleaned texts of `size` characters in all; the last one is cut."""
    for text in (text for name in names for text in read_documents(name)):
        cleaned = clean_text(text)[:size]
        if cleaned:
            yield cleaned
        size -= len(cleaned)


def row(name: str, tokenizer: Tokenizer, sentences: list[str], quick: bool) -> list[str]:
    """Return the row of one tokenizer on one language."""
    size = sum(len(sentence.encode()) for sentence in sentences)
    alone, cached, plain = [], [], []
    for _ in range(2 if quick else 5):
        encoder = make_encoder(tokenizer)
        alone.append(seconds_of_tokenizers(tokenizer, sentences))
        cached.append(_seconds(encoder.encode, sentences))
        plain.append(_seconds(without_cache(encoder), sentences))
    ratios = [
        median_and_quartiles([peer / own for peer, own in zip(alone, side, strict=True)], 2) for side in (cached, plain)
    ]
    rates = [f"{size / median(side) / 1e6:.2f}" for side in (alone, cached)]
    return [name, megabytes(size), *rates, *ratios]


def without_cache(encoder: Encoder) -> Callable[[Sequence[str]], object]:
    """Return what encodes sentences by `tokenizers` for every one of them."""
    if isinstance(encoder, WordCacheEncoder):
        return encoder.plain.encode
    assert isinstance(encoder, ByteEncoder)
    return encoder.encode_texts


def _seconds(encode: Callable[[Sequence[str]], object], sentences: list[str]) -> float:
    started = time.perf_counter()
    for start in range(0, len(sentences), BATCH):
        encode(sentences[start : start + BATCH])
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
