"""`python -m pretrain.report RUN_DIR`: a run, under way or over, as one HTML page; `--watch`: live in the terminal."""

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from data_prep.atomic_file import write_atomically
from pretrain.report.columns import MetricColumns
from pretrain.report.history import read_history
from pretrain.report.page import render_page
from pretrain.report.watch import print_once, watch

PAGE_FILE = "report.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page or show the view; return the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    options = _parse(arguments)
    try:
        if options.once:
            print_once(options.run_dir)
        elif options.watch:
            watch(options.run_dir, every_seconds=options.every)
        else:
            print(_write_page(options))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pretrain.report", description="Show how a run has gone so far.")
    parser.add_argument("run_dir", type=Path, help="the run_dir of a training, under way or over")
    parser.add_argument("--output", type=Path, help=f"HTML file to write (default: RUN_DIR/{PAGE_FILE})")
    parser.add_argument("--cost-per-hour", type=float, help="price of one device for an hour, in any currency")
    parser.add_argument("--watch", action="store_true", help="a live view in the terminal; Ctrl-C leaves it")
    parser.add_argument("--once", action="store_true", help="with --watch: print one frame and leave")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two frames (default: 2)")
    options = parser.parse_args(arguments)
    if options.once and not options.watch:
        parser.error("--once belongs to --watch")
    if options.watch and not options.once and not sys.stdout.isatty():
        parser.error("--watch needs a terminal; --watch --once prints one frame anywhere")
    if options.every <= 0:
        parser.error(f"--every={options.every:g}: seconds, above 0")
    if options.cost_per_hour is not None and options.cost_per_hour < 0:
        parser.error(f"--cost-per-hour={options.cost_per_hour:g}: zero or more")
    return options


def _write_page(options: argparse.Namespace) -> Path:
    history = read_history(options.run_dir, MetricColumns(options.run_dir))
    output: Path = options.output or options.run_dir / PAGE_FILE
    write_atomically(output, render_page(history, now=datetime.now(UTC), cost_per_hour=options.cost_per_hour).encode())
    return output


if __name__ == "__main__":
    sys.exit(main())
