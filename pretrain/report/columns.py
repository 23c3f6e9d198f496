"""A growing `metrics.jsonl` -> one column of numbers per metric, each line read once."""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain.track.metrics import Record
from pretrain.track.metrics_file import METRICS_FILE, decode_record

Floats = NDArray[np.float64]


class MetricColumns:
    """The numbers of a run's metrics so far. Lines that cannot be read are counted, not hidden."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE
        self._forget()

    def _forget(self) -> None:
        self._inode = self._bytes_read = 0
        self._columns: dict[str, tuple[array[float], array[float]]] = {}
        self.step = 0  # of the newest line
        self.lines = self.unreadable_lines = 0
        self.resumed_at: list[int] = []  # the first step logged after each resume

    def read_new(self) -> None:
        """Take up the lines that were added, but a last one without its newline: it is still being written.

        A resume that rolls back replaces the file: then everything is read anew.
        """
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._bytes_read:
                self._forget()
                self._inode = status.st_ino
            file.seek(self._bytes_read)
            for line in file:
                if line.endswith(b"\n"):
                    self._bytes_read += len(line)
                    self._take(line)

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric that has been logged, in the order of its first line."""
        return tuple(self._columns)

    def column(self, metric: str) -> tuple[Floats, Floats]:
        """Return the steps and the values of a metric, float64 [lines that have it] each; NaN and infinities too."""
        steps, values = self._columns.get(metric, (array("d"), array("d")))
        return np.array(steps), np.array(values)

    def newest(self, metric: str) -> float | None:
        """Return the last value of a metric; None when it was never logged."""
        return self._columns[metric][1][-1] if metric in self._columns else None

    def _take(self, line: bytes) -> None:
        try:
            record = decode_record(line)
        except ValueError:
            self.unreadable_lines += 1
            return
        self.step = int(record["step"] or 0)
        self.lines += 1
        if record.get("resumed"):
            self.resumed_at.append(self.step)
        for name, value in _numbers(record):
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = (array("d"), array("d"))
            column[0].append(self.step)
            column[1].append(value)


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            yield name, float(value)
