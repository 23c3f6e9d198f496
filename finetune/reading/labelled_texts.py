"""Rows of a table -> texts or pairs of texts with their label, several labels, or number."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.label_alignment import IGNORE_INDEX
from finetune.reading.faults import Faults, Place
from finetune.reading.tables import read_table
from finetune.task_config import ClassificationConfig, Kind

Label = str | list[str] | float


class UnusableError(ValueError):
    """What is wrong with a row, in words for the user."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One example. `label` is a string, a list of them (multi_label), a number (regression), or None: not asked for."""

    place: Place
    text: str
    pair: str | None
    label: Label | None


def read_labelled_texts(
    key: str, path: Path, config: ClassificationConfig, faults: Faults, *, labelled: bool, suffix: str | None = None
) -> Iterator[LabelledText]:
    """Yield the rows of a CSV, TSV or JSON Lines file; an empty text or a label that is none is a fault.

    Raises ValueError for a file that cannot be read and for a column that does not exist. `suffix` stands for that of
    the file.
    """
    columns = {"task.text_column": config.text_column}
    if config.pair_column is not None:
        columns["task.pair_column"] = config.pair_column
    if labelled:
        columns["task.label_column"] = config.label_column
    for place, row in read_table(key, path, columns, faults, suffix=suffix):
        try:
            text = _text(row, config.text_column)
            pair = None if config.pair_column is None else _text(row, config.pair_column)
            label = _label(row[config.label_column], config) if labelled else None
        except UnusableError as error:
            faults.report(place, str(error))
        else:
            yield LabelledText(place, text, pair, label)


def _text(row: dict[str, Any], column: str) -> str:
    text = row[column]
    if not isinstance(text, str):
        raise UnusableError(f"column {column!r} holds {text!r}, which is no text")
    if not text.strip():
        raise UnusableError(f"the text in column {column!r} is empty; fill it or remove the row")
    return text


def _label(value: Any, config: ClassificationConfig) -> Label:
    if config.kind is Kind.multi_label:
        return _several(value, config)
    name = _name(value, config.label_column)
    return _number(name, config.label_column) if config.kind is Kind.regression else name


def _name(value: Any, column: str) -> str:
    # JSON has numbers and truth values too; a list or an object is no label.
    name = str(value).strip() if isinstance(value, str | int | float) else ""
    if not name:
        raise UnusableError(f"column {column!r} holds {value!r}, which is no label")
    return name


def _several(value: Any, config: ClassificationConfig) -> list[str]:
    if isinstance(value, str):
        value = value.split(config.label_separator) if value.strip() else []
    if not isinstance(value, list):
        raise UnusableError(f"column {config.label_column!r} holds {value!r}; several labels are a list or a string")
    return sorted({_name(item, config.label_column) for item in value})


def _number(name: str, column: str) -> float:
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnusableError(f"column {column!r} holds {name!r}, which is no number, and task.kind=regression needs one")
    with np.errstate(over="ignore"):
        ignored = np.float32(number) == IGNORE_INDEX
    if ignored:
        raise UnusableError(
            f"column {column!r} holds {name!r}, and the Trainer of transformers does not count a label of "
            f"{IGNORE_INDEX}; add a constant to the numbers of every file, or scale them"
        )
    return number
