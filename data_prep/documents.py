"""Raw text -> cleaned text -> its id."""

import re
import unicodedata
from hashlib import blake2b

ID_BYTES = 16

# Every character of category Cc (but white space), Cf and Cs, and U+FFFC, U+FFFD. BertNormalizer drops nearly all of
# them too, yet they would still hide sentence ends and make equal texts look different. A test compares the ranges
# with `unicodedata`.
_JUNK = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffd"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]+"
)
_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ODD_SPACE = re.compile(r"[^\S\n ]")
_SPACES = re.compile("  +")
_PARAGRAPH = re.compile("\n{3,}")


def clean_text(text: str) -> str:
    """Return `text` as documents are kept: invisible characters removed, NFC, white space folded.

    Control, format (soft hyphen, zero-width, direction marks) and replacement characters go; every kind of line
    break becomes a newline; runs of other white space become one space, none of it at a line's ends; at most one
    empty line in a row. Newlines stay because sentence splitting reads an empty line as the end of a sentence.
    """
    # Most texts need few of these steps, and which ones shows in the few characters they are made of.
    characters = "".join(set(text))
    if _LINE_BREAK.search(characters):
        text = _LINE_BREAK.sub("\n", text)
    if _JUNK.search(characters):
        text = _JUNK.sub("", text)
    text = unicodedata.normalize("NFC", text)
    if _ODD_SPACE.search(characters):
        text = _ODD_SPACE.sub(" ", text)
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n\n" in text:
        text = _PARAGRAPH.sub("\n\n", text)
    return text.strip()


def document_id(text: str) -> bytes:
    """Return the id of a cleaned text: blake2b of its UTF-8 bytes, 16 bytes. Equal texts, equal ids."""
    return blake2b(text.encode(), digest_size=ID_BYTES).digest()
