"""The config of data_prep: one dataclass per section, checked when it is built. `conf/data_prep.yaml` has the defaults.

Enum members are lower case: OmegaConf looks a choice up by its name, and so one spelling serves YAML and code.
"""

import math
from dataclasses import dataclass
from enum import StrEnum, auto

from conf.checks import require
from data_prep.corpus_config import CorpusConfig
from data_prep.executor_config import RayConfig, SlurmConfig


class PairKind(StrEnum):
    """What the second segment of an instance is."""

    nsp = auto()  # next-sentence prediction: half follow, half are random (BERT)
    sop = auto()  # sentence order: it is the next one, but half of the pairs are swapped (ALBERT)
    none = auto()  # there is none: full sentences, across documents (RoBERTa)


class PairRecipe(StrEnum):
    """Whose next-sentence pairs."""

    lambert = auto()  # `data_prep.pairing.next_sentence`
    google_research = auto()  # those of google-research/bert, faults included: `data_prep.pairing.reference_pairs`


class MaskingKind(StrEnum):
    """When masks are drawn."""

    static = auto()  # once per copy of the corpus, when shards are built
    dynamic = auto()  # anew in every epoch, by the trainer; shards hold none (RoBERTa)


class Packing(StrEnum):
    """How instances fill a sequence."""

    none = auto()  # one instance per sequence
    best_fit = auto()  # several, as `packing.pack_best_fit` chooses them


class ExecutorKind(StrEnum):
    """What runs the tasks."""

    local = auto()  # processes of this machine
    slurm = auto()  # a job array; all folders on a file system that the nodes share
    ray = auto()  # a Ray cluster, likewise


class TokenizerKind(StrEnum):
    """What tokens are."""

    wordpiece = auto()  # pieces of words (BERT): a vocab.txt
    byte_bpe = auto()  # runs of bytes, joined pair by pair (GPT-2, RoBERTa): a vocab.json and a merges.txt
    unigram = auto()  # the likeliest pieces of words (SentencePiece, ALBERT): a tokenizer.json, not trained here


PUBLISHED_SIZES = {TokenizerKind.wordpiece: 30522, TokenizerKind.byte_bpe: 50265, TokenizerKind.unigram: 30000}
"""Of BERT, RoBERTa and ALBERT."""
SMALLEST_SIZES = {TokenizerKind.wordpiece: 64, TokenizerKind.byte_bpe: 261, TokenizerKind.unigram: 64}
"""261: 256 bytes and 5 special tokens."""


@dataclass(kw_only=True, slots=True)
class TokenizerConfig:
    """Load `vocab_file` (a file of its kind, or a `tokenizer.json`), or train a vocabulary when it is null.

    Built, it has no null `lowercase` or `vocab_size`.
    """

    kind: TokenizerKind
    vocab_file: str | None
    add_words_file: str | None  # new words, one a line: tokens after those of `vocab_file`; WordPiece only
    lowercase: bool | None  # for a vocab.txt or trained WordPiece (null: true); a tokenizer.json says it itself
    vocab_size: int | None  # of a trained vocabulary: an upper bound, small corpora give fewer; null: as published
    train_bytes: int  # text bytes the training reads at most, spread evenly over the corpus files

    def __post_init__(self) -> None:
        is_wordpiece, kind = self.kind is TokenizerKind.wordpiece, f"tokenizer.kind={self.kind.value}"
        remedy = "a tokenizer.json: data_prep trains wordpiece and byte_bpe only"
        may_train = self.kind is not TokenizerKind.unigram
        require(may_train or self.vocab_file is not None, "tokenizer.vocab_file", self.vocab_file, remedy)
        if self.lowercase is None:
            self.lowercase = is_wordpiece
        reasons = {TokenizerKind.byte_bpe: "which keeps case", TokenizerKind.unigram: "whose tokenizer.json says it"}
        remedy = f"false or null with {kind}, {reasons.get(self.kind)}"
        require(is_wordpiece or not self.lowercase, "tokenizer.lowercase", self.lowercase, remedy)
        if self.vocab_size is None:
            self.vocab_size = PUBLISHED_SIZES[self.kind]
        smallest = SMALLEST_SIZES[self.kind]
        remedy = f"at least {smallest} with {kind}"
        require(self.vocab_size >= smallest, "tokenizer.vocab_size", self.vocab_size, remedy)
        words, remedy = self.add_words_file, "name the vocabulary that it extends: tokenizer.vocab_file=DIR/vocab.txt"
        require(words is None or self.vocab_file is not None, "tokenizer.add_words_file", words, remedy)
        remedy = f"null with {kind}: only wordpiece takes new words"
        require(words is None or is_wordpiece, "tokenizer.add_words_file", words, remedy)
        require(self.train_bytes > 0, "tokenizer.train_bytes", self.train_bytes, "a positive number of bytes")


class WordSegmenter(StrEnum):
    """What finds words where a script has no spaces."""

    jieba = auto()  # Chinese


@dataclass(kw_only=True, slots=True)
class SentencesConfig:
    """Sentences and words."""

    language: str  # an ISO 639-1 code that sentencex knows
    word_segmenter: WordSegmenter | None  # for masking.whole_word in Chinese; null: every Chinese character is a word


@dataclass(kw_only=True, slots=True)
class PairsConfig:
    """How segments A and B are made."""

    kind: PairKind
    recipe: PairRecipe  # other than lambert with nsp only
    short_seq_prob: float  # share of instances with a random shorter target length; nsp and sop only

    def __post_init__(self) -> None:
        require(0 <= self.short_seq_prob <= 1, "pairs.short_seq_prob", self.short_seq_prob, "between 0 and 1")
        require(
            self.recipe is PairRecipe.lambert or self.kind is PairKind.nsp,
            "pairs.recipe",
            self.recipe.value,
            f"pairs.kind={self.kind.value} has the recipe lambert only; google_research needs pairs.kind=nsp",
        )


@dataclass(kw_only=True, slots=True)
class MaskingConfig:
    """Masked language modelling as in the BERT paper: 80 % [MASK], 10 % random, 10 % unchanged.

    A token, or with `whole_word` a word, is masked whole or not at all; so are n-grams of 1 to `max_ngram` of them,
    each length n with probability proportional to 1 / n (ALBERT: 3).
    """

    kind: MaskingKind
    whole_word: bool
    max_ngram: int  # 1: none longer
    masked_lm_prob: float
    max_predictions_per_seq: int | None  # null: max_seq_length * masked_lm_prob, rounded up, as google-research/bert

    def __post_init__(self) -> None:
        require(0 < self.masked_lm_prob < 1, "masking.masked_lm_prob", self.masked_lm_prob, "between 0 and 1")
        count = self.max_predictions_per_seq
        require(count is None or count >= 1, "masking.max_predictions_per_seq", count, "at least 1, or null")
        require(1 <= self.max_ngram <= 16, "masking.max_ngram", self.max_ngram, "between 1 (off) and 16")


@dataclass(kw_only=True, slots=True)
class SequenceConfig:
    """The rows of a shard."""

    max_seq_length: int
    packing: Packing

    def __post_init__(self) -> None:
        length = self.max_seq_length
        require(8 <= length <= 65535, "sequence.max_seq_length", length, "between 8 and 65535 tokens")


@dataclass(kw_only=True, slots=True)
class ShardsConfig:
    """Sizes of what is written."""

    block_size: int  # sequences per block
    shard_bytes: int  # a shard is closed at the first block that reaches this

    def __post_init__(self) -> None:
        require(1 <= self.block_size <= 65536, "shards.block_size", self.block_size, "between 1 and 65536 sequences")
        require(self.shard_bytes >= 1, "shards.shard_bytes", self.shard_bytes, "a positive number of bytes")


@dataclass(kw_only=True, slots=True)
class ExecutorConfig:
    """What runs the tasks and how the work is cut. Only `bucket_bytes` changes what the shards hold."""

    kind: ExecutorKind
    workers: int  # tasks at a time
    task_bytes: int | None  # input bytes per scatter task, about; null: `corpus_parts.choose_task_bytes`
    bucket_bytes: int | None  # text bytes per bucket, about, which a build task holds in memory; null: by the corpus
    work_dir: str | None  # where tokenized text is kept between runs; null: inside output_dir
    slurm: SlurmConfig
    ray: RayConfig

    def __post_init__(self) -> None:
        require("://" not in (self.work_dir or ""), "executor.work_dir", self.work_dir, "a local folder, or null")
        require(self.workers >= 1, "executor.workers", self.workers, "at least 1")
        size = self.task_bytes
        require(size is None or size >= 1, "executor.task_bytes", size, "a positive number of bytes, or null")
        size = self.bucket_bytes
        require(size is None or size >= 1, "executor.bucket_bytes", size, "a positive number of bytes, or null")


@dataclass(kw_only=True, slots=True)
class DataPrepConfig:
    """The root config; only the entry reads it whole. Built, it has no null `masking.max_predictions_per_seq`."""

    output_dir: str
    seed: int
    dupe_factor: int  # copies of the corpus, each with its own pairs and masks
    held_out_fraction: float  # share of documents kept for evaluation, chosen by the hash of their text
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    sentences: SentencesConfig
    pairs: PairsConfig
    masking: MaskingConfig
    sequence: SequenceConfig
    shards: ShardsConfig
    executor: ExecutorConfig

    def __post_init__(self) -> None:
        directory = self.output_dir
        require("://" not in directory, "output_dir", directory, "a local folder; copy finished shards to a URL")
        require(self.seed >= 0, "seed", self.seed, "zero or a positive integer")
        require(self.dupe_factor >= 1, "dupe_factor", self.dupe_factor, "at least 1")
        fraction = self.held_out_fraction
        require(0 <= fraction < 1, "held_out_fraction", fraction, "at least 0 and below 1")
        segmenter = self.sentences.word_segmenter
        may_segment = self.tokenizer.kind is TokenizerKind.wordpiece
        remedy = f"null with tokenizer.kind={self.tokenizer.kind.value}, whose tokens are no single characters"
        require(may_segment or segmenter is None, "sentences.word_segmenter", segmenter and segmenter.value, remedy)
        if self.masking.max_predictions_per_seq is None:
            wanted = self.sequence.max_seq_length * self.masking.masked_lm_prob
            self.masking.max_predictions_per_seq = math.ceil(wanted)
