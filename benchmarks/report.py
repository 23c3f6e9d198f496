"""What every benchmark prints: one Markdown table, what its figures are, and the machine they come from."""

import argparse
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

QUICK = "Sizes of --quick: they show that the script works, nothing else."


def asks_for_quick(description: str | None, arguments: Sequence[str] | None = None) -> bool:
    """Return whether the command line (`sys.argv` unless given) has `--quick`; `--help` prints the description."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that the script works")
    return bool(parser.parse_args(arguments).quick)


def print_report(header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str], quick: bool) -> None:
    """Print the table, then the notes and the machine, a line each. `quick` says that the sizes were tiny ones."""
    print(markdown_table(header, rows), *notes, *([QUICK] if quick else []), describe_machine(), sep="\n\n")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; every row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    assert {len(line) for line in lines} == {len(header)}, "a row is not as long as the header"
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median_and_quartiles(values: Sequence[float], digits: int = 1) -> str:
    """Return `median (first quartile to third)`, the spread that a noisy machine leaves; at least two values."""
    low, middle, high = (f"{value:,.{digits}f}" for value in statistics.quantiles(values, n=4, method="inclusive"))
    return f"{middle} ({low} to {high})"


def megabytes(count: float) -> str:
    """Return bytes in units of 10⁶."""
    return f"{count / 1e6:,.1f}"


def describe_machine() -> str:
    """Return one line: CPU, cores, how busy they are with all that runs on them, versions and the date."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "deepspeed"))
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    return f"{_cpu_model()}, {os.cpu_count()} cores ({load}), {versions}, {date.today().isoformat()}."


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
