"""Tags of words <-> labels of word pieces: a word's first piece has its label (BERT paper, section 5.3)."""

from collections.abc import Iterator, Sequence

IGNORE_INDEX = -100
"""Label of a token that no loss and no score looks at; transformers' and torch's."""


def align_labels(word_ids: Sequence[int | None], labels: Sequence[int]) -> list[int]:
    """Return a label for each token: that of its word at the word's first piece, else IGNORE_INDEX.

    `word_ids` is what a fast tokenizer says of each token (None for special ones), `labels` those of the words.
    """
    aligned = [IGNORE_INDEX] * len(word_ids)
    for word, token in first_pieces(word_ids).items():
        aligned[token] = labels[word]
    return aligned


def first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Return the token of each word's first piece, by word. A word without pieces (a lone joiner) is not there."""
    tokens: dict[int, int] = {}
    for token, word in enumerate(word_ids):
        if word is not None:
            tokens.setdefault(word, token)
    return tokens


def cut_words(piece_counts: Sequence[int], room: int) -> Iterator[range]:
    """Yield runs of words whose pieces fit in `room` tokens, each as long as can be; together they are all words.

    No word may have more than `room` pieces.
    """
    start, used = 0, 0
    for word, count in enumerate(piece_counts):
        assert count <= room
        if used + count > room:
            yield range(start, word)
            start, used = word, 0
        used += count
    yield range(start, len(piece_counts))
