"""datatrove's quality filters by name and options: documents are cleaned, those that fail a filter are left out."""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from datatrove.data import Document
from datatrove.pipeline import filters as datatrove_filters
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result

from conf.checks import require
from data_prep.documents import clean_text
from data_prep.filter_config import FilterConfig, FilterName
from data_prep.filtering.words import UnicodeWords

DROPPED_BY = "dropped_by_"  # counts of left out documents are named by this and the filter

_CLASSES = {
    FilterName.c4_paragraph: datatrove_filters.C4ParagraphFilter,
    FilterName.c4_quality: datatrove_filters.C4QualityFilter,
    FilterName.fineweb_quality: datatrove_filters.FineWebQualityFilter,
    FilterName.gopher_quality: datatrove_filters.GopherQualityFilter,
    FilterName.gopher_repetition: datatrove_filters.GopherRepetitionFilter,
    FilterName.regex: datatrove_filters.RegexFilter,
}

# Long enough for every default threshold, so that an option of a wrong type fails here and not after hours.
_TRIAL_TEXT = """\
Some rivers of the north freeze each winter, and the people who live beside them have learned to walk on the ice.
They wait until a heavy man can jump on it without a sound, for thin ice sings before it breaks.
When spring comes, children bring home what the water left on its banks: nets, a wooden shoe, once a whole boat.
Nobody knows that boat's owner. It stands in the garden of the school with beans and peas growing out of it.
"""


class FilterStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """Cleans documents and leaves out those that fail one of the filters, tried in order.

    A document without text goes on: scatter counts it as empty. `counts` tells how many were left out by the task that
    ran last, by filter; scatter puts it into its file.
    """

    name = "Lambert filters"

    def __init__(self, filters: Sequence[FilterConfig], language: str) -> None:
        super().__init__()
        self.filters = make_filters(filters, language)
        self.counts: Counter[str] = Counter()

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents that pass, cleaned before the first filter and, as a filter may cut, after the last."""
        self.counts.clear()
        for document in data:
            document.text = clean_text(document.text)
            failed = next((name for name, made in self.filters if not _passes(document, made)), None)
            if failed is None:
                document.text = clean_text(document.text)
                yield document
            else:
                self.counts["documents"] += 1
                self.counts[DROPPED_BY + failed] += 1


def _passes(document: Document, made: BaseFilter) -> bool:
    return not document.text or bool(get_filter_result(made.filter(document))[0])


def make_filters(filters: Sequence[FilterConfig], language: str) -> list[tuple[FilterName, BaseFilter]]:
    """Return datatrove's filters. `language` (of sentences) serves those that have no `language` among their options.

    Raises ValueError naming the place in the config for an option that the filter does not have or cannot run with,
    and for a package that it lacks.
    """
    return [
        (config.name, _make_filter(config, language, f"corpus.filters.{number}"))
        for number, config in enumerate(filters)
    ]


def _make_filter(config: FilterConfig, language: str, place: str) -> BaseFilter:
    made_by = _CLASSES[config.name]
    parameters = {**inspect.signature(made_by).parameters}
    del parameters["exclusion_writer"]  # an object of Python: no config can hold it
    allowed = ", ".join(parameters) or "no options"
    for key, value in config.options.items():
        require(key in parameters, f"{place}.options.{key}", value, f"{config.name} takes {allowed}")
    missing = [key for key, one in parameters.items() if one.default is one.empty and key not in config.options]
    require(not missing, f"{place}.options", config.options, f"{config.name} needs {', '.join(missing)}")
    options = {key: _as_tuple(value) for key, value in config.options.items()}
    if "language" in parameters:
        options.setdefault("language", UnicodeWords(language))
    try:
        made = made_by(**options)
        made.filter(Document(text=_TRIAL_TEXT, id=""))
    except ImportError as error:
        remedy = f"{error} Or leave {place}.options.language out: words are then told apart without a package"
        raise ValueError(f"{place}: {config.name} lacks a package. {remedy}") from error
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise ValueError(f"{place}: {config.name} cannot run with options={config.options}: {error}") from error
    return made


def _as_tuple(value: Any) -> Any:
    # The filters' own defaults are tuples, and `str.endswith` takes no list.
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
