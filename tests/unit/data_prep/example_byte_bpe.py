"""A byte-level BPE vocabulary small enough to train in a moment, and text that could trip its rules."""

from functools import cache

from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_prep.vocabulary import train_byte_bpe

TEXTS = [
    f"The {number} walkers walked, (walking) unaffably; they'll say “don’t” in Zürich's Jürgen: 你好，世界。你好！"
    for number in range(60)
]

# What GPT-2's pre-tokenizer looks at: white space of every kind and what only Python takes for it, contractions, digits
# of other scripts, letters, marks, quotes, and what spells a special token.
PARTS = [
    *" \t\n\x0b\x0c\r\x85\xa0\u1680\u2000\u2009\u2028\u2029\u202f\u205f\u3000\x1c\x1d\x1e\x1f\u200b\u180e\ufeff\0",
    *("  ", "   ", " \n ", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "''", "'S", "’s", "<mask>", " <s>"),
    *("walk", "The", " the", "Zürich", "ß", "ǆ", "é", "e\u0301", "ª", "²", "½", "٣", "Ⅷ", "7", "42"),
    *("你好", "，", "。", "가", '"', "“", "”", "—", "…", "-", ".", "!", "#", "_", "€", "👩🏽", "\u20dd", "\U000e0041"),
]  # fmt: skip
STRINGS = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(TEXTS),
)


@cache
def byte_bpe() -> Tokenizer:
    """Return a tokenizer of 320 tokens learnt from `TEXTS`: bytes, parts of Chinese characters, words."""
    return train_byte_bpe(TEXTS, vocab_size=320, on_read=lambda characters: None)
