"""A WordPiece tokenizer and a list of new words -> the same tokenizer with a token for each, after all others."""

import json
from pathlib import Path

from tokenizers import Tokenizer

FIELD = "tokenizer.add_words_file"


def add_words(tokenizer: Tokenizer, path: Path) -> tuple[Tokenizer, int]:
    """Return the tokenizer with the words of a file, one a line, and how many of them were tokens already.

    Every old token keeps its id; new ones follow in the order of the file, as the normalizer writes them. They are
    entries of the model, not tokens that are looked for in the text: a word is matched whole, or as the longest
    beginning of a longer one, as every other piece is.
    Raises ValueError naming the line for what is not one word to the tokenizer, and when no word is new.
    """
    values = json.loads(tokenizer.to_str())
    old = tokenizer.get_vocab()
    new: dict[str, int] = {}
    known = 0
    for line, word in _read_words(path):
        token = _as_one_word(tokenizer, word, f"{FIELD}: {path}, line {line}")
        if token in old or token in new:
            known += 1
        else:
            new[token] = len(old) + len(new)
    if not new:
        raise ValueError(f"{FIELD}: {path} holds no word that is not a token already; leave it out")
    values["model"]["vocab"] |= new
    extended = Tokenizer.from_str(json.dumps(values))
    if extended.get_vocab() != old | new:
        raise ValueError(
            f"{FIELD} is not possible: the tokenizer has added tokens after its vocabulary, whose ids would move; "
            "use one whose tokens are all in its vocabulary, as its vocab.txt gives it"
        )
    return extended, known


def _read_words(path: Path) -> list[tuple[int, str]]:
    """Return the words of a file with their lines; empty lines are none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{FIELD}: {path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise ValueError(
            f"{FIELD}: {path} cannot be read ({error.strerror}); name a file of words, one a line"
        ) from error
    return [(line, word.strip()) for line, word in enumerate(text.split("\n"), start=1) if word.strip()]


def _as_one_word(tokenizer: Tokenizer, word: str, where: str) -> str:
    """Return a word as the tokenizer's normalizer writes it. Raises ValueError when it is none or several to it."""
    written = tokenizer.normalizer.normalize_str(word) if tokenizer.normalizer else word
    words = [part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(written)] if tokenizer.pre_tokenizer else []
    if len(words) != 1:
        shown = " ".join(words) or "nothing"
        raise ValueError(f"{where}: {word!r} is {len(words)} words to the tokenizer ({shown}); give one word a line")
    longest = tokenizer.model.max_input_chars_per_word
    if len(words[0]) > longest:
        raise ValueError(f"{where}: {word!r} has {len(words[0])} characters; longer than {longest} are [UNK] anyway")
    return str(words[0])
