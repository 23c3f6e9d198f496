"""Which bucket a document belongs to, a pure function of its id; and into how many buckets a corpus is divided.

A bucket is a uniform sample of its split, and what one build task holds in memory.
"""

from dataclasses import dataclass
from math import ceil

# As many buckets as a machine's workers can share, yet not tiny ones: a random B comes from its own bucket, which must
# stay a fair sample of the corpus. Not large ones either: a build task holds one in memory.
BUCKETS_WORTH_HAVING = 32
SMALL_BUCKET_BYTES = 8_000_000
LARGE_BUCKET_BYTES = 64_000_000

# Scattered bytes per text byte: two bytes a token of about four characters, one bit of word start.
SCATTERED_BYTES_PER_TEXT_BYTE = 0.55
GOOD_RANGE_BYTES = 1_000_000
MANY_RANGES = 100_000


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

    def count_groups(self, buckets_per_group: int) -> int:
        """Return how many groups of so many buckets there are; the last may have fewer."""
        return ceil(self.total / buckets_per_group)


def divide_corpus(text_bytes: int, *, bucket_bytes: int | None, held_out_fraction: float) -> Buckets:
    """Return the buckets of a corpus: of about `bucket_bytes` of text each, held-out text in buckets of its own.

    None: 32 buckets, unless they would hold less than 8 MB or more than 64 MB of text.
    """
    size = bucket_bytes or min(max(ceil(text_bytes / BUCKETS_WORTH_HAVING), SMALL_BUCKET_BYTES), LARGE_BUCKET_BYTES)
    return Buckets(
        train=max(1, ceil(text_bytes * (1 - held_out_fraction) / size)),
        held_out=max(1, ceil(text_bytes * held_out_fraction / size)) if held_out_fraction else 0,
        held_out_fraction=held_out_fraction,
    )


def choose_buckets_per_group(*, text_bytes: int, num_tasks: int, num_buckets: int) -> int:
    """Return how many buckets share a range of a scatter file: 1 unless ranges were many and small.

    There are tasks x buckets ranges. When they are under 1 MB and over 100,000, scatter sorts by groups of buckets
    whose ranges are 1 MB again, and a pass between (`regroup`) reads each group once and sorts it by bucket.
    """
    scattered_bytes = text_bytes * SCATTERED_BYTES_PER_TEXT_BYTE
    good = num_tasks * num_buckets <= MANY_RANGES or scattered_bytes >= GOOD_RANGE_BYTES * num_tasks * num_buckets
    if good:
        return 1
    groups = max(1, MANY_RANGES // num_tasks, int(scattered_bytes / (GOOD_RANGE_BYTES * num_tasks)))
    return ceil(num_buckets / groups)


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
