"""Tokens of an instance, some of them masked -> what a human reads, in units that a line may be broken between."""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from tokenizers import pre_tokenizers

from data_prep.special_tokens import BYTE_BPE, UNIGRAM
from data_prep.unigram import WORD_MARK

SPACE = "␣"  # a token that is nothing but a space

# A word with its space, or one character of the scripts that break anywhere: those from the CJK radicals on.
_UNITS = re.compile(" ?(?:[^ \u2e80-\U0003ffff]+|[\u2e80-\U0003ffff])")


class ShownToken(NamedTuple):
    """A token as the model sees it, and, where it is masked, the one that it must predict."""

    seen: str
    wanted: str | None


def word_piece_units(tokens: Iterable[ShownToken]) -> list[str]:
    """Return words, each after a space; a word piece is joined to its word unless one of them is masked."""
    words: list[str] = []
    for seen, wanted in tokens:
        piece = seen if wanted is None else f"{seen}{{{wanted}}}"
        if piece.startswith("##") and words and not piece.endswith("}") and not words[-1].endswith("}"):
            words[-1] += piece[2:]
        else:
            words.append(f" {piece}")
    return words


def unigram_units(tokens: Iterable[ShownToken]) -> list[str]:
    """Return words, each after a space, special tokens too; a piece is joined to its word unless one of them is masked.

    The space before a masked token is that of the one to predict.
    """
    units: list[str] = []
    may_join, after_special = False, True
    for seen, wanted in tokens:
        is_special = wanted is None and seen in UNIGRAM and seen != UNIGRAM.unk
        begins = is_special or after_special or (wanted or seen).startswith(WORD_MARK)
        text = seen.removeprefix(WORD_MARK) if wanted is None else f"{_bare(seen)}{{{_bare(wanted)}}}"
        if begins or wanted is not None or not may_join:
            units.append(f" {text}" if begins else text)
        else:
            units[-1] += text
        may_join, after_special = wanted is None and not is_special, is_special
    return units


def _bare(piece: str) -> str:
    return piece.removeprefix(WORD_MARK) or SPACE


def byte_token_units(tokens: Iterable[ShownToken]) -> list[str]:
    r"""Return the text of byte-level tokens, special ones between spaces, bytes that make no character as `\xe4`.

    The space before a masked token is that of the one to predict.
    """
    units = [""]
    text = b""
    for seen, wanted in [*tokens, ShownToken(BYTE_BPE.pad, None)]:
        if wanted is None and seen not in BYTE_BPE:
            text += token_bytes(seen)
            continue
        units += _UNITS.findall(text.decode(errors="backslashreplace"))
        text = b""
        if wanted is None:
            units.append(f" {seen}")
        else:
            before = " " if token_bytes(wanted).startswith(b" ") else ""
            units.append(f"{before}{_alone(seen)}{{{_alone(wanted)}}}")
    return [
        f" {unit}" if before.strip() in BYTE_BPE and not unit.startswith(" ") else unit
        for before, unit in pairwise(units[:-1])
    ]


def _alone(token: str) -> str:
    return token_bytes(token).decode(errors="backslashreplace").strip() or SPACE


def token_bytes(token: str) -> bytes:
    """Return the bytes that a byte-level token stands for; what is no such token, as it is written."""
    byte_of = _bytes_of_letters()
    if token in BYTE_BPE or any(letter not in byte_of for letter in token):
        return token.encode()
    return bytes(byte_of[letter] for letter in token)


@lru_cache(maxsize=1)
def _bytes_of_letters() -> dict[str, int]:
    """Return the byte of each letter that GPT-2 writes bytes with: its own, or the next that is not printable."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = sorted(set(range(256)) - set(printable.values()))
    return printable | dict(zip(letters[len(printable) :], others, strict=True))
