"""The config of what a corpus leaves out by itself: `corpus.filters` and `corpus.near_duplicates`."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from conf.checks import require


class FilterName(StrEnum):
    """datatrove's filters that need no download and judge a document by its text alone."""

    c4_paragraph = auto()
    c4_quality = auto()  # cuts lines, too
    fineweb_quality = auto()
    gopher_quality = auto()
    gopher_repetition = auto()
    regex = auto()  # leaves out what matches


@dataclass(kw_only=True, slots=True)
class FilterConfig:
    """One filter; `options` are arguments of datatrove's class, which `filters.make_filters` checks."""

    name: FilterName
    options: dict[str, Any] = field(default_factory=dict)  # here, since YAML has no defaults for a list's items


@dataclass(kw_only=True, slots=True)
class NearDuplicatesConfig:
    """MinHash; the defaults, here since the section is null by default, are FineWeb's.

    They find 99.9 % of the pairs with 9 of 10 shingles in common, 77 % of those with 3 of 4, 5 % of those with half.
    """

    num_buckets: int = 14  # bands of hashes; documents that agree in one are near duplicates
    hashes_per_bucket: int = 8
    n_grams: int = 5  # words a shingle

    def __post_init__(self) -> None:
        for name in ("num_buckets", "hashes_per_bucket", "n_grams"):
            require(getattr(self, name) >= 1, f"corpus.near_duplicates.{name}", getattr(self, name), "at least 1")
