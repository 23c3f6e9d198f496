"""Raw text -> cleaned text -> its id; the split and the bucket of a document are pure functions of that id."""

import re
import unicodedata
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """How documents are divided: train buckets are numbered first, held-out buckets after them."""

    train: int
    held_out: int
    held_out_fraction: float  # of documents, in [0, 1); held_out is 0 only when this is 0

    @property
    def total(self) -> int:
        """Buckets of both splits."""
        return self.train + self.held_out


def clean_text(text: str) -> str:
    """Return `text` as documents are kept: invisible characters removed, NFC, white space folded.

    Control, format (soft hyphen, zero-width, direction marks) and replacement characters go; every kind of line
    break becomes a newline; runs of other white space become one space, none of it at a line's ends; at most one
    empty line in a row. Newlines stay because sentence splitting reads an empty line as the end of a sentence.
    """
    text = unicodedata.normalize("NFC", _JUNK.sub("", _LINE_BREAK.sub("\n", text)))
    # Four plain steps: one pattern for all of them takes four times as long.
    text = _SPACES.sub(" ", _ODD_SPACE.sub(" ", text)).replace(" \n", "\n").replace("\n ", "\n")
    return _PARAGRAPH.sub("\n\n", text).strip()


def document_id(text: str) -> bytes:
    """Return the id of a cleaned text: blake2b of its UTF-8 bytes, 16 bytes. Equal texts, equal ids."""
    return blake2b(text.encode(), digest_size=ID_BYTES).digest()


def is_held_out(identifier: bytes, held_out_fraction: float) -> bool:
    """Return whether a document is kept for evaluation. Decided by the first 8 bytes of its id."""
    return int.from_bytes(identifier[:8], "big") < held_out_fraction * 2**64


def bucket_of(identifier: bytes, num_buckets: int) -> int:
    """Return a uniform number in [0, num_buckets) from the last 8 bytes of an id, hence independent of its split."""
    return int.from_bytes(identifier[8:], "big") * num_buckets >> 64


def place_document(identifier: bytes, buckets: Buckets) -> int:
    """Return the bucket of a document, counted over both splits."""
    if is_held_out(identifier, buckets.held_out_fraction):
        return buckets.train + bucket_of(identifier, buckets.held_out)
    return bucket_of(identifier, buckets.train)
