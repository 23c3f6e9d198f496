"""CSV, TSV and JSON Lines -> rows by column name, each with its place."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from finetune.reading.faults import Faults, Place, at_line
from finetune.reading.text_file import read_lines

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
TABLES = (*DELIMITERS, *JSON_LINES)

Row = tuple[Place, dict[str, Any]]

MAX_WAITING = 1000
"""A column that none of so many rows of JSON Lines has does not exist."""


def read_table(
    key: str, path: Path, columns: dict[str, str], faults: Faults, *, suffix: str | None = None
) -> Iterator[Row]:
    """Yield each row of a table, a dict by column name, and where it stands (of a row over several lines, the first).

    `columns` are the config keys of the columns that every row must have, with the columns' names. A row of JSON
    Lines may lack a column that others have, which is a fault of that row. Raises ValueError for a file that cannot be
    read, a suffix that is no table's, and a column that no row has, listing those that exist. `suffix` stands for that
    of the file. Rows are read as they are asked for; few are in memory.
    """
    suffix = suffix or path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{key}={path} is no table, which ends in {', '.join(TABLES)}; rename or convert it")
    lines = read_lines(key, path)
    if suffix in DELIMITERS:
        return _read_separated(path, lines, DELIMITERS[suffix], columns, faults)
    return _read_json_lines(path, lines, columns, faults)


def _read_separated(
    path: Path, lines: Iterable[str], delimiter: str, columns: dict[str, str], faults: Faults
) -> Iterator[Row]:
    # TSV as GLUE and most others write it has no quoting: a quotation mark is a character.
    quoted = delimiter == ","
    remedy = "quote fields that hold commas" if quoted else "take tabs out of fields"
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    first = 1
    try:
        header = next(rows)
        _require_columns(path, columns, header)
        first = rows.line_num + 1
        for row in rows:
            place, first = at_line(path, first), rows.line_num + 1
            if len(row) == len(header):
                yield place, dict(zip(header, row, strict=True))
            elif row:
                faults.report(place, f"{len(row)} fields, but the first line names {len(header)}; {remedy}")
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {first}: a row that begins here is not CSV ({error}); "
            "double the quotes inside quoted fields, and close them"
        ) from error


def _read_json_lines(path: Path, lines: Iterable[str], columns: dict[str, str], faults: Faults) -> Iterator[Row]:
    known: set[str] = set()
    waiting: list[Row] = []  # until every column has been seen, or is given up
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = at_line(path, number)
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            faults.report(place, f"not JSON ({error}); each line must be one JSON object")
            continue
        if not isinstance(record, dict):
            faults.report(place, f"a JSON {type(record).__name__}, but each line must be an object")
            continue
        known.update(record)
        waiting.append((place, record))
        if known.issuperset(columns.values()) or len(waiting) == MAX_WAITING:
            _require_columns(path, columns, sorted(known))
            yield from _complete(waiting, columns, faults)
            waiting = []
    _require_columns(path, columns, sorted(known))
    yield from _complete(waiting, columns, faults)


def _complete(rows: Iterable[Row], columns: dict[str, str], faults: Faults) -> Iterator[Row]:
    for place, record in rows:
        missing = [name for name in columns.values() if name not in record]
        if missing:
            faults.report(place, f"no field {missing[0]!r}, only {_listed(record)}; add it")
        else:
            yield place, record


def _require_columns(path: Path, columns: dict[str, str], existing: Iterable[str]) -> None:
    existing = list(existing)
    for key, name in columns.items():
        if name not in existing:
            raise ValueError(f"{key}={name} is not a column of {path}; it has {_listed(existing)}")
    if len(set(existing)) < len(existing):
        twice = next(name for name in existing if existing.count(name) > 1)
        raise ValueError(f"{path}, line 1: the column {twice!r} occurs twice; rename one")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
