"""A sample of the corpus -> a WordPiece or a byte-level BPE vocabulary, the same one every time."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import fsspec
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from data_prep.byte_bpe import byte_bpe_tokenizer
from data_prep.corpus import CorpusFile
from data_prep.corpus_config import CorpusConfig, OnError
from data_prep.corpus_parts import cut_files
from data_prep.documents import clean_text
from data_prep.reading.readers import read_texts
from data_prep.reading.unreadable import ignore_unreadable, raise_unreadable
from data_prep.special_tokens import BYTE_BPE, WORDPIECE
from data_prep.tokenizer import CONTINUATION, wordpiece_tokenizer

# Rarer characters become [UNK] (sentencepiece's default coverage is 0.9995), as do those beyond half the vocabulary.
CHARACTER_COVERAGE = 0.9999
SAMPLED_PART_BYTES = 64_000_000
MAX_SAMPLED_PARTS = 10_000

# A pair seen once is no pattern; `ByteLevelBPETokenizer.train` of tokenizers says so too.
MIN_PAIR_COUNT = 2

NO_TEXT = "corpus.paths: the corpus has no text to train a vocabulary from; check corpus.format"


def sample_texts(files: Sequence[CorpusFile], corpus: CorpusConfig, sample_bytes: int) -> Iterator[str]:
    """Yield cleaned texts of at most `sample_bytes` UTF-8 bytes in all; the last text of a part may be cut.

    Every file gives its beginning, in proportion to its size, and so does every 64 MB of a large file that can be cut;
    of more than 10,000 such parts every n-th does. Raises ValueError for what cannot be read unless `corpus.on_error`
    is skip.
    """
    sources = corpus.each_source()
    parts = cut_files(files, [source.format for source in sources], SAMPLED_PART_BYTES)
    parts = parts[:: -(-len(parts) // MAX_SAMPLED_PARTS)]
    total = sum(part.size for part in parts)
    on_unreadable = ignore_unreadable if corpus.on_error is OnError.skip else raise_unreadable
    for part in parts:
        # A part's share of all bytes bounds text bytes too: compressed ones expand evenly enough.
        room = max(1, sample_bytes * part.size // total)
        with fsspec.open(part.path, "rb") as file:
            for _, text in read_texts(file, part, sources[part.source], on_unreadable):
                data = clean_text(text).encode()
                sample = data[:room].decode(errors="ignore")  # a character on the edge is left out
                if sample:
                    yield sample
                room -= len(data)
                if room <= 0:
                    break


def train_vocabulary(
    texts: Sequence[str], *, vocab_size: int, lowercase: bool, on_read: Callable[[int], object]
) -> list[str]:
    """Return a WordPiece vocabulary of at most `vocab_size` tokens, special tokens first, learnt from cleaned texts.

    tokenizers' trainer numbers the `##` characters in the order of a randomly seeded hash map and breaks ties by
    number, so two runs differ. Here every character is numbered beforehand, and all runs agree.
    The texts are read twice; `on_read` is told the characters of each. Raises ValueError when they have none.
    """

    def follow() -> Iterator[str]:
        for text in texts:
            yield text
            on_read(len(text))

    bert = wordpiece_tokenizer(list(WORDPIECE), lowercase=lowercase, source="of the trainer")
    counts: Counter[str] = Counter()
    for text in follow():
        counts.update(bert.normalizer.normalize_str(text))
    alphabet = choose_alphabet(counts, (vocab_size - len(WORDPIECE)) // 2)
    if not alphabet:
        raise ValueError(NO_TEXT)
    continuing = [
        CONTINUATION + character
        for character in alphabet
        if len(bert.pre_tokenizer.pre_tokenize_str(bert.normalizer.normalize_str("a" + character))) == 1
    ]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*WORDPIECE, *alphabet, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    bert.train_from_iterator(follow(), trainer)
    vocabulary = bert.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def train_byte_bpe(texts: Sequence[str], *, vocab_size: int, on_read: Callable[[int], object]) -> Tokenizer:
    """Return RoBERTa's tokenizer with at most `vocab_size` tokens learnt from cleaned texts, lines joined by spaces.

    Ids are RoBERTa's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3; then the 256 bytes and what merges make, as learnt; the
    last one is `<mask>`. tokenizers' trainer numbers bytes by code point and breaks ties by number: all runs agree.
    The texts are read once; `on_read` is told the characters of each. Raises ValueError when they have none.
    """
    if not any(text.strip() for text in texts):
        raise ValueError(NO_TEXT)

    def follow() -> Iterator[str]:
        for text in texts:
            yield " ".join(text.split())
            on_read(len(text))

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # without <mask>
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=[BYTE_BPE.cls, BYTE_BPE.pad, BYTE_BPE.sep, BYTE_BPE.unk],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(follow(), trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = learnt["vocab"] | {BYTE_BPE.mask: len(learnt["vocab"])}
    return byte_bpe_tokenizer(vocabulary, [(left, right) for left, right in learnt["merges"]], source="just trained")


def choose_alphabet(counts: Counter[str], limit: int) -> list[str]:
    """Return the most frequent characters (no space) that cover 99.99 % of the counts, at most `limit`, sorted."""
    ranked = sorted((item for item in counts.items() if not item[0].isspace()), key=lambda item: (-item[1], item[0]))
    wanted = CHARACTER_COVERAGE * sum(count for _, count in ranked)
    covered = 0
    chosen: list[str] = []
    for character, count in islice(ranked, limit):
        if covered >= wanted:
            break
        chosen.append(character)
        covered += count
    return sorted(chosen)
