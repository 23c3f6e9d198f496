"""Scores of several seeds -> mean and sample standard deviation, as a table and as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS_FILE = "results.json"

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed gave: where its model lies, at which step it was best, and its scores by split (eval, test)."""

    seed: int
    model: str  # relative to the folder of the results
    best_step: int
    scores: dict[str, Scores]


@dataclass(frozen=True, slots=True)
class Results:
    """What a run gave. `std` is the sample standard deviation (n - 1) over seeds; None of a single one."""

    task: str
    metric: str
    best_seed: int  # by the metric on the eval file
    seeds: list[SeedResult]
    mean: dict[str, Scores]
    std: dict[str, Scores] | None


def summarize(task: str, metric: str, seeds: list[SeedResult], *, lower_is_better: bool) -> Results:
    """Return means and deviations over seeds, by split and metric."""
    choose = min if lower_is_better else max
    best = choose(seeds, key=lambda result: result.scores["eval"][metric])
    mean: dict[str, Scores] = {}
    std: dict[str, Scores] = {}
    for split in seeds[0].scores:
        # A score that some seed does not have (no answerable question) has no mean.
        names = [name for name in seeds[0].scores[split] if all(name in result.scores[split] for result in seeds)]
        values = {name: [result.scores[split][name] for result in seeds] for name in names}
        mean[split] = {name: statistics.fmean(several) for name, several in values.items()}
        if len(seeds) > 1:
            std[split] = {name: statistics.stdev(several) for name, several in values.items()}
    return Results(task, metric, best.seed, seeds, mean, std or None)


def table(results: Results) -> str:
    """Return one block per split: a line per seed, and `mean ± deviation` below where there are several."""
    blocks = [_block(results, split) for split in results.mean]
    return "\n\n".join(blocks)


def _block(results: Results, split: str) -> str:
    names = list(results.mean[split])
    rows = [[split, *names]]
    rows += [[f"seed {one.seed}", *(f"{one.scores[split][name]:.4f}" for name in names)] for one in results.seeds]
    if results.std is not None:
        means, deviations = results.mean[split], results.std[split]
        rows.append(["mean ± std", *(f"{means[name]:.4f} ± {deviations[name]:.4f}" for name in names)])
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(_pad, row, widths, range(len(row)))).rstrip() for row in rows)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def write_results(directory: Path, results: Results) -> None:
    """Write `results.json`, which is there whole or not at all: it says that a run is done."""
    text = json.dumps(asdict(results), indent=1, ensure_ascii=False)
    temporary = directory / f".{RESULTS_FILE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(directory / RESULTS_FILE)


def read_results(directory: Path) -> Results:
    """Return what `write_results` wrote. Raises ValueError when it is not of this release."""
    path = directory / RESULTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Results(**content | {"seeds": [SeedResult(**one) for one in content["seeds"]]})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not one of this release: {error}") from error
