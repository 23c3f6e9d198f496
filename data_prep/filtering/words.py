"""A text -> its words and sentences, for datatrove's filters and signatures: no other package, no language's rules."""

import regex
from datatrove.utils.word_tokenizers import WordTokenizer

from data_prep.sentences import split_sentences

# Scripts that put no space between words: each of their characters counts as a word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:['’][^\W{_UNSPACED}]+)*|\.{{2,}}|[^\w\s]")


class UnicodeWords(WordTokenizer):  # type: ignore[misc]  # datatrove has no types
    """Words are runs of letters, digits and marks, apostrophes inside included; a punctuation mark is one of its own.

    datatrove's own word tokenizers want spaCy, jieba and others, by language; they also cut "don't" in two.
    """

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words and punctuation marks in order; all that is not white space belongs to one."""
        return _WORD.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the sentences of `language`, as they are split for training."""
        return split_sentences(text, self.language)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return where each sentence starts and ends, in characters."""
        spans: list[tuple[int, int]] = []
        end = 0
        for sentence in self.sent_tokenize(text):
            start = text.index(sentence, end)
            end = start + len(sentence)
            spans.append((start, end))
        return spans
