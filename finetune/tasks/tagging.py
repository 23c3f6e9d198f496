"""Words -> one tag each: named entities, slots."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from conf.checks import require
from finetune.class_weights import label_weights, require_known
from finetune.label_alignment import align_labels, cut_words, first_pieces
from finetune.losses import cross_entropy
from finetune.metrics import tagging_scores
from finetune.reading.conll import TaggedWords, read_tagged_words
from finetune.reading.faults import Faults, Place
from finetune.tag_schemes import OUTSIDE, InvalidTagsError, join_words, to_characters, to_iob2, unit_spans
from finetune.task_config import TaggingConfig
from finetune.tasks.task import Encoded, Feature, Logits, LossFunction


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words, or characters, with their tags in IOB2; None where they were not asked for. `places` are the words'.

    Words that were cut out of a text have their `spans` in it: first character and end, exclusive.
    """

    places: list[Place]
    words: list[str]
    tags: list[str] | None
    text: str | None = None
    spans: list[tuple[int, int]] | None = None

    @property
    def place(self) -> Place:
        """Where the sentence begins."""
        return self.places[0]

    def words_text(self, first: int, last: int) -> str:
        """Return what stands from one word to another, the last one included."""
        if self.text is not None and self.spans is not None:
            return self.text[self.spans[first][0] : self.spans[last][1]]
        return join_words(self.words[first : last + 1])


@dataclass(frozen=True, slots=True)
class Piece:
    """What one input holds of a sentence: the first token of each of its words, by the word's place in the sentence."""

    sentence: int
    tokens: dict[int, int]


class Tagging:
    """Token classification. `labels` are O and, for every entity type of the training file, B- and I-."""

    auto_class = AutoModelForTokenClassification
    metrics: tuple[str, ...] = ("f1", "precision", "recall", "accuracy")
    metric = "f1"

    def __init__(self, config: TaggingConfig, labels: Sequence[str] = ()) -> None:
        self.config = config
        self.labels = list(labels)

    def read(self, key: str, path: Path, faults: Faults) -> list[Sentence]:
        """Return the sentences of a file, their tags in IOB2; with known labels, another entity type is a fault."""
        return list(self.check(read_tagged_words(key, path, self.config, faults, labelled=True), faults))

    def check(self, sentences: Iterable[TaggedWords], faults: Faults) -> Iterator[Sentence]:
        """Yield sentences with their tags in IOB2, as words or characters; tags that are not valid are faults."""
        for found in sentences:
            try:
                tags = None if found.tags is None else to_iob2(found.tags, self.config.scheme)
                self._require_known(tags or [])
            except InvalidTagsError as error:
                faults.report(found.places[error.position], str(error))
            else:
                yield self._sentence(found, tags)

    def learn_labels(self, train: Sequence[Sentence]) -> None:
        """Take the entity types of the training file. Raises ValueError when there is none."""
        types = sorted({tag[2:] for sentence in train for tag in sentence.tags or [] if tag != OUTSIDE})
        require(bool(types), "task.tag_column", self.config.tag_column, "train_file has no entity: every tag is O")
        labels = [OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
        require_known(self.config.label_weights, labels)
        self.labels = labels

    def head_settings(self) -> dict[str, Any]:
        """Return the settings of the head: one output per tag."""
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: number for number, name in enumerate(self.labels)},
        }

    def encode(self, examples: Sequence[Sentence], tokenizer: Any, max_length: int, faults: Faults) -> Encoded:
        """Return the features of each sentence: one, or of a long one several that follow each other."""
        kept: list[Sentence] = []
        features: list[Feature] = []
        spans: list[Piece] = []
        long = 0
        room = max_length - tokenizer.num_special_tokens_to_add(pair=False)
        for sentence in examples:
            counts = Counter(tokenizer(sentence.words, is_split_into_words=True, add_special_tokens=False).word_ids())
            sizes = [counts[word] for word in range(len(sentence.words))]
            if max(sizes) > room:
                longest = sizes.index(max(sizes))
                faults.report(
                    sentence.places[longest],
                    f"the word {sentence.words[longest][:40]!r} has {max(sizes)} word pieces, more than "
                    f"max_length={max_length} has room for; raise max_length or remove it",
                )
                continue
            runs = list(cut_words(sizes, room))
            long += len(runs) > 1
            for run in runs:
                feature, tokens = self._feature(sentence, run, tokenizer)
                features.append(feature)
                spans.append(Piece(len(kept), tokens))
            kept.append(sentence)
        return Encoded(kept, features, spans, long, f"sentences are cut into parts of at most {max_length} tokens")

    def collator(self, tokenizer: Any) -> Any:
        """Return what pads a batch, labels too, to its longest input."""
        return DataCollatorForTokenClassification(tokenizer)

    def loss(self, train: Encoded) -> LossFunction:
        """Return the cross-entropy over words, with the weights that the config asks for."""
        counts = Counter(tag for sentence in train.examples for tag in sentence.tags)
        each = [counts[label] for label in self.labels]
        return cross_entropy(label_weights(self.config.class_weights, self.config.label_weights, self.labels, each))

    def scores(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Return precision, recall and F1 of whole entities, and the accuracy of tags, over whole sentences."""
        gold = [sentence.tags for sentence in encoded.examples]
        return tagging_scores(gold, self.predicted_tags(logits, encoded))

    def decode(self, logits: Logits, encoded: Encoded) -> list[dict[str, Any]]:
        """Return, per sentence, its words, its tags, the predicted ones and their entities.

        An entity has its words (from 0, the last one included), its text, in a text also its characters (`start`, and
        `end`, exclusive), and the probability of its least likely tag.
        """
        return [
            {
                "at": str(sentence.place),
                "words": sentence.words,
                "tags": sentence.tags,
                "predicted": [tag for tag, _ in likely],
                "entities": [_describe(sentence, found, likely) for found in entities([tag for tag, _ in likely])],
            }
            for sentence, likely in zip(encoded.examples, self._likeliest(logits, encoded), strict=True)
        ]

    def predicted_tags(self, logits: Logits, encoded: Encoded) -> list[list[str]]:
        """Return the likeliest tag of every word, by sentence. A word without any word piece is O."""
        return [[tag for tag, _ in likely] for likely in self._likeliest(logits, encoded)]

    def _likeliest(self, logits: Logits, encoded: Encoded) -> list[list[tuple[str, float]]]:
        """Return the likeliest tag of every word with its probability, by sentence."""
        tags = [[(OUTSIDE, 1.0)] * len(sentence.words) for sentence in encoded.examples]
        for piece, outputs in zip(encoded.spans, logits[0], strict=True):
            for word, token in piece.tokens.items():
                likely = int(outputs[token].argmax())
                probability = float(softmax(outputs[token].astype(np.float64))[likely])
                tags[piece.sentence][word] = self.labels[likely], probability
        return tags

    def _feature(self, sentence: Sentence, run: range, tokenizer: Any) -> tuple[Feature, dict[int, int]]:
        """Return the input of a run of words, and the first token of each by its place in the sentence."""
        encoded = tokenizer(sentence.words[run.start : run.stop], is_split_into_words=True)
        feature = dict(encoded)
        if sentence.tags is not None:
            numbers = [self.labels.index(tag) for tag in sentence.tags[run.start : run.stop]]
            feature["labels"] = align_labels(encoded.word_ids(), numbers)
        return feature, {run.start + word: token for word, token in first_pieces(encoded.word_ids()).items()}

    def _sentence(self, found: TaggedWords, tags: list[str] | None) -> Sentence:
        """Return the words of a file, or their characters, with tags in IOB2."""
        if not self.config.by_character:
            return Sentence(found.places, found.words, tags)
        pairs = zip(found.places, found.words, strict=True)
        places = [place for place, word in pairs for _ in unit_spans(word)]
        return Sentence(places, *to_characters(found.words, tags))

    def _require_known(self, tags: Sequence[str]) -> None:
        for position, tag in enumerate(tags):
            if self.labels and tag not in self.labels:
                types = ", ".join(label[2:] for label in self.labels if label.startswith("B-"))
                raise InvalidTagsError(
                    position, f"entity type {tag[2:]!r} does not occur in train_file, which has {types}"
                )


def _describe(sentence: Sentence, entity: dict[str, Any], likely: Sequence[tuple[str, float]]) -> dict[str, Any]:
    first, last = entity["first_word"], entity["last_word"]
    place = {"text": sentence.words_text(first, last)}
    if sentence.spans is not None:
        place |= {"start": sentence.spans[first][0], "end": sentence.spans[last][1]}
    return entity | place | {"probability": min(probability for _, probability in likely[first : last + 1])}


def entities(tags: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the entities of one sentence as seqeval sees them: `type`, `first_word`, `last_word` (from 0)."""
    for kind, first, last in get_entities(list(tags)):
        yield {"type": kind, "first_word": int(first), "last_word": int(last)}
