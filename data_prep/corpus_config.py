"""The `corpus` section of data_prep's config: where the text is, how it lies there, what of it is left out."""

from dataclasses import dataclass, replace
from enum import StrEnum, auto

from conf.checks import require
from data_prep.filter_config import FilterConfig, NearDuplicatesConfig


class CorpusFormat(StrEnum):
    """How documents lie in the corpus files."""

    text = auto()  # one document per file
    text_blank_lines = auto()  # documents separated by blank lines
    jsonl = auto()  # one JSON object per line
    csv = auto()  # a header line, then rows; tabs between fields in .tsv files
    wikiextractor = auto()  # <doc ...> ... </doc>
    parquet = auto()
    arrow = auto()  # what Hugging Face `datasets` saves to disk
    warc = auto()  # pages of web archives, and their text (WET)


# What is done about a document that can't be read: the run ends, or it is left out, counted and listed. Made by a call,
# since `raise` is a word of Python.
OnError = StrEnum("OnError", ["raise", "skip"])


@dataclass(kw_only=True, slots=True)
class SourceConfig:
    """One of several sources of a corpus; what is null is the corpus's own. Defaults are here: a list has no YAML."""

    name: str
    paths: list[str]
    format: CorpusFormat | None = None
    text_key: str | None = None
    language: str | None = None  # null: sentences.language
    weight: float | None = None  # share of all tokens, relative to the other weights; all sources have one or none has

    def __post_init__(self) -> None:
        require(bool(self.paths), f"corpus.sources.{self.name}.paths", self.paths, "name at least one file or folder")
        weight = self.weight
        require(weight is None or weight >= 0, f"corpus.sources.{self.name}.weight", weight, "at least 0, or null")


@dataclass(kw_only=True, slots=True)
class CorpusConfig:
    """Where the raw text is: `paths`, or several `sources` with paths of their own.

    Paths are files, folders or globs, local or any fsspec URL.
    """

    paths: list[str]
    format: CorpusFormat
    text_key: str  # field or column with the text, for jsonl, csv, parquet and arrow
    sources: list[SourceConfig]
    exponent: float | None  # weights of sources are tokens ** exponent; null: weights as given, or each document once
    on_error: OnError
    max_document_bytes: int  # as it lies in its file (a line of jsonl): larger ones can't be read
    filters: list[FilterConfig]  # in this order, before near duplicates are looked for
    near_duplicates: NearDuplicatesConfig | None  # null: they stay; {} removes them

    def __post_init__(self) -> None:
        require(self.max_document_bytes >= 1, "corpus.max_document_bytes", self.max_document_bytes, "at least 1 byte")
        if not self.sources:
            require(bool(self.paths), "corpus.paths", self.paths, "name at least one file, folder or glob")
            require(self.exponent is None, "corpus.exponent", self.exponent, "null without corpus.sources")
            return
        require(not self.paths, "corpus.paths", self.paths, "each of corpus.sources has its own; leave these out")
        names = [source.name for source in self.sources]
        require(len(set(names)) == len(names) <= 256, "corpus.sources", names, "a name for each, at most 256")
        weights = [source.weight for source in self.sources]
        given = [weight for weight in weights if weight is not None]
        require(len(given) in (0, len(weights)), "corpus.sources.weight", weights, "one for every source or none")
        require(not given or sum(given) > 0, "corpus.sources.weight", weights, "at least one above 0")
        exponent = self.exponent
        require(exponent is None or not given, "corpus.exponent", exponent, "null beside weights of the sources")
        require(exponent is None or exponent >= 0, "corpus.exponent", exponent, "at least 0 (1 changes nothing)")

    def each_source(self) -> list["CorpusConfig"]:
        """Return the config of each source alone, with `paths`; of a corpus without sources, its own."""
        return [
            replace(
                self,
                paths=source.paths,
                format=source.format or self.format,
                text_key=source.text_key or self.text_key,
                sources=[],
                exponent=None,
            )
            for source in self.sources
        ] or [self]
