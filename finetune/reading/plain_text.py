"""Lines of plain text -> texts; a text -> words or characters with their offsets."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers.pre_tokenizers import BertPreTokenizer

from finetune.reading.faults import Faults, Place, at_line
from finetune.reading.text_file import read_lines
from finetune.tag_schemes import unit_spans

Span = tuple[int, int]
"""First character and end, exclusive."""


def read_plain_texts(key: str, path: Path, faults: Faults) -> Iterator[tuple[Place, str]]:
    """Yield each line of a file, or of standard input, and where it stands; an empty one is a fault."""
    for number, line in enumerate(read_lines(key, path), start=1):
        text = line.rstrip("\r\n")
        if text.strip():
            yield at_line(path, number), text
        else:
            faults.report(at_line(path, number), "the line is empty; remove it")


def cut_text(text: str, *, by_character: bool) -> tuple[list[str], list[Span]]:
    """Return the words of a text and where they stand: what is between blanks, and punctuation marks one by one.

    As BERT's basic tokenizer cuts. With `by_character` each Han character is a word of its own.
    """
    words = BertPreTokenizer().pre_tokenize_str(text)
    spans = [span for _, span in words]
    if by_character:
        spans = [(first + start, first + end) for word, (first, _) in words for start, end in unit_spans(word)]
    return [text[start:end] for start, end in spans], spans
