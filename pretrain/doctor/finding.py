"""What the doctor says of one thing: how it stands, what was seen, and what it costs when it is not as it should be."""

from dataclasses import dataclass
from enum import StrEnum

INSTALL = "pip install --constraint constraints.txt --editable ."


class Verdict(StrEnum):
    """How a thing stands, from best to worst."""

    ok = "ok"
    missing = "missing"  # not there; training does without
    warn = "warn"  # there, and not as it should be
    broken = "broken"  # training cannot do without


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One entry of the report. `cost` says what a verdict other than `ok` costs and what helps."""

    name: str
    verdict: Verdict
    seen: str
    cost: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.name:<16} {self.seen}" + (f"\n{'':<26}{self.cost}" if self.cost else "")


def ok(name: str, seen: str) -> Finding:
    """Return a finding without a cost."""
    return Finding(name=name, verdict=Verdict.ok, seen=seen)


def missing(name: str, seen: str, cost: str) -> Finding:
    """Return a finding of a thing that training does without."""
    return Finding(name=name, verdict=Verdict.missing, seen=seen, cost=cost)


def warn(name: str, seen: str, cost: str) -> Finding:
    """Return a finding of a thing that is not as it should be."""
    return Finding(name=name, verdict=Verdict.warn, seen=seen, cost=cost)


def broken(name: str, seen: str, cost: str) -> Finding:
    """Return a finding that no training can do without."""
    return Finding(name=name, verdict=Verdict.broken, seen=seen, cost=cost)
