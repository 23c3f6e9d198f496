"""A unigram vocabulary like ALBERT's published one, small and made by hand, and text that could trip it."""

from collections.abc import Sequence

from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AlbertTokenizer

WORDS = ["the", "walk", "ers", "ing", "un", "aff", "able", "ship", "s", "ed", "pad", "unk", "19", "98", "'", "--"]
WORDS += ["ö", "мир", "ы", "你", "好"]
PIECES = [*WORDS, *(f"▁{word}" for word in WORDS), "▁", *'abcdefghijklmnopqrstuvwxyz0123456789.,!?-"()<>[]']
SCORES = {piece: -3.0 - 0.37 * number for number, piece in enumerate(dict.fromkeys(PIECES))}
SPECIAL = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*((token, 0.0) for token in SPECIAL), *SCORES.items()]

TEXTS = ["The walkers walked -- unaffably (walking)!", "''Ships'' ``sail``", "In 1998, 2 ships’ walkers… 你好，世界"]
TRAPS = "\t\n\x0b\x0c\r\x85\xa0\u1680\u2009\u2028\u3000\u200b\u0301\u0308ＡéößİςΣ▁你가👩🏽‘’“”–—…<>[]#"
STRINGS = st.one_of(
    st.lists(st.sampled_from([*WORDS, *SPECIAL[2:], *TRAPS, " ", "  ", "``", "''"]), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(TEXTS),
).filter(lambda text: "pad>" not in text.lower() and "unk>" not in text.lower())
"""Without what spells a piece of the vocabulary that is a special token: there `tokenizers` differs from us."""


def published(vocabulary: Sequence[tuple[str, float]] = VOCABULARY, *, lowercase: bool = True) -> AlbertTokenizer:
    """Return the tokenizer that transformers makes of ALBERT's vocabularies."""
    return AlbertTokenizer(vocab=list(vocabulary), do_lower_case=lowercase)


def unigram(*, lowercase: bool = True) -> Tokenizer:
    """Return what its `tokenizer.json` holds."""
    return Tokenizer.from_str(published(lowercase=lowercase).backend_tokenizer.to_str())
