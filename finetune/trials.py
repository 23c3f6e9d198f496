"""Trials of a hyper-parameter search, one fine-tuning each -> a table, the best of them, and its command."""

import dataclasses
import json
import logging
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from conf.sweep import find_ranges, sweep
from finetune.config import CONF_PACKAGE, FinetuneConfig
from finetune.divergence import DivergedError
from finetune.results import align
from finetune.resumable import finetune_once
from finetune.run import choose_metric
from finetune.tasks.build import build_task
from finetune.tasks.task import LOWER_IS_BETTER

SEARCH_FILE = "search.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """One fine-tuning: the values of the searched keys, and the metric on the eval file; no score when it diverged."""

    number: int
    chosen: list[str]  # as on the command line
    score: float | None
    std: float | None  # over seeds


def search(config: FinetuneConfig, arguments: Sequence[str]) -> list[Trial]:
    """Run the trials that Optuna chooses, and print and write what came of them; return them in order.

    `config` is what all trials share. A search that was cut off goes on: trials lie in folders of their own, and the
    sampler, told the same scores, chooses the same again. Raises DivergedError when every trial diverged.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    metric = choose_metric(build_task(config.task), config.evaluation.metric)
    lower = metric in LOWER_IS_BETTER
    output_dir = Path(config.output_dir)
    trials: list[Trial] = []

    def run(number: int, chosen: list[str], one: FinetuneConfig) -> float:
        print(f"\ntrial {number}: {' '.join(chosen)}", flush=True)
        trial = _try(number, chosen, dataclasses.replace(one, output_dir=str(output_dir / f"trial-{number}")), metric)
        trials.append(trial)
        worst = math.inf if lower else -math.inf  # the sweeper cannot take NaN
        return worst if trial.score is None else trial.score

    direction = f"hydra.sweeper.direction={'minimize' if lower else 'maximize'}"
    sweep("search", type(config), [*arguments, direction], run, package=CONF_PACKAGE)
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not scored:
        raise DivergedError("every trial diverged; search lower learning rates")
    _, best = (min if lower else max)(scored, key=lambda pair: pair[0])
    _write(output_dir / SEARCH_FILE, metric, trials, best)
    where = output_dir / f"trial-{best.number}"
    print(f"\n{table(trials, metric, best)}\n\nbest: trial {best.number}, in {where}; the same again:")
    print(best_command(arguments, best, output_dir))
    return trials


def _try(number: int, chosen: list[str], config: FinetuneConfig, metric: str) -> Trial:
    try:
        results = finetune_once(config)
    except DivergedError as error:
        print(f"trial {number}: {error}", flush=True)
        return Trial(number, chosen, None, None)
    std = None if results.std is None else results.std["eval"][metric]
    return Trial(number, chosen, results.mean["eval"][metric], std)


def table(trials: Sequence[Trial], metric: str, best: Trial) -> str:
    """Return a line per trial: the values of the searched keys and the score; the best one is marked."""
    keys = [line.partition("=")[0] for line in trials[0].chosen]
    rows = [["trial", *keys, metric, ""]]
    for trial in trials:
        score = "diverged" if trial.score is None else f"{trial.score:.4f}"
        deviation = "" if trial.std is None else f" ± {trial.std:.4f}"
        values = [line.partition("=")[2] for line in trial.chosen]
        rows.append([str(trial.number), *values, score + deviation, "best" if trial is best else ""])
    return align(rows)


def best_command(arguments: Sequence[str], best: Trial, output_dir: Path) -> str:
    """Return the command that trains with the best values, for a shell."""
    fixed, _ = find_ranges(arguments)
    kept = [line for line in fixed if line.partition("=")[0] != "output_dir"]
    return shlex.join(["python", "-m", "finetune", *kept, *best.chosen, f"output_dir={output_dir}-best"])


def _write(path: Path, metric: str, trials: Sequence[Trial], best: Trial) -> None:
    content = {"metric": metric, "best": best.number, "trials": [dataclasses.asdict(trial) for trial in trials]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
