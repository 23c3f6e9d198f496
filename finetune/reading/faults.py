"""What happens to an example that cannot be used: it ends the run, or it is left out, counted and listed."""

from collections import Counter
from dataclasses import dataclass, field

MAX_LISTED = 20
"""So many examples of each file are listed when they are left out; all are counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example stands: a file, and a line (from 1) or a question's id in it."""

    file: str
    where: str

    def __str__(self) -> str:
        return f"{self.file}, {self.where}"


def at_line(file: object, number: int) -> Place:
    """Return the place of a line, counted from 1."""
    return Place(str(file), f"line {number}")


@dataclass(slots=True)
class Faults:
    """Takes faults of examples. With `skip` they are kept here; without, the first ends the run."""

    skip: bool
    counts: Counter[str] = field(default_factory=Counter)  # by file
    listed: list[str] = field(default_factory=list)

    def report(self, place: Place, message: str) -> None:
        """Note the fault of one example, which the caller leaves out. Raises ValueError unless faults are skipped."""
        if not self.skip:
            raise ValueError(f"{place}: {message} (on_error=skip leaves out what cannot be used)")
        self.counts[place.file] += 1
        if self.counts[place.file] <= MAX_LISTED:
            self.listed.append(f"{place}: {message}")

    def summary(self) -> str:
        """Return lines that list and count what was left out; nothing when there was none."""
        counts = [f"left out {count:,} examples of {file}" for file, count in self.counts.items()]
        return "\n".join([*self.listed, *counts])
