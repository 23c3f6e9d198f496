"""Fine-tunings of one task from several checkpoints and from random weights -> a table, a plot and what they say."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from transformers.utils import logging as transformers_logging

from finetune.checkpoint_models import claim_models, export_checkpoint, find_checkpoints, write_random_weights
from finetune.compare_config import ALL, CompareConfig
from finetune.config import FinetuneConfig
from finetune.results import Results, align, summarize
from finetune.resumable import finetune_once
from finetune.tasks.task import LOWER_IS_BETTER

RANDOM = "random"
COMPARE_FILE, PLOT_FILE, MODELS_DIR = "compare.json", "compare.png", "models"
SCORE, REFERENCE, INK = "#0072B2", "#8A8A8A", "#333333"


def compare(config: CompareConfig, shared: FinetuneConfig) -> dict[str, Results]:
    """Fine-tune from every checkpoint with the same seeds and budget; return the results by step, `random` first.

    Every seed has random weights of its own. What is done already, in an earlier call that was cut off, stays as it is.
    """
    transformers_logging.disable_progress_bar()
    run_dir, output_dir = Path(config.run_dir), Path(shared.output_dir)
    tags = find_checkpoints(run_dir, None if config.steps == ALL else config.steps)
    models = output_dir / MODELS_DIR
    claim_models(run_dir, tags.values(), models)
    for tag in tags.values():
        export_checkpoint(run_dir, tag, models / tag)
    like = models / next(iter(tags.values()))
    results = {RANDOM: _from_random(shared, like, models, output_dir)}
    for step, tag in tags.items():
        print(f"\n== step {step:,}", flush=True)
        results[str(step)] = finetune_once(
            dataclasses.replace(shared, model=str(models / tag), output_dir=str(output_dir / tag))
        )
    split = "test" if shared.test_file is not None else "eval"
    content = {name: dataclasses.asdict(one) for name, one in results.items()}
    text = json.dumps({"split": split, "results": content}, indent=1, ensure_ascii=False)
    (output_dir / COMPARE_FILE).write_text(text + "\n", encoding="utf-8")
    plot(results, split, output_dir / PLOT_FILE)
    print(f"\n{table(results, split)}\n\n{verdict(results, split)}\n{output_dir / PLOT_FILE}")
    return results


def _from_random(shared: FinetuneConfig, like: Path, models: Path, output_dir: Path) -> Results:
    parts = []
    for seed in shared.seeds:
        print(f"\n== random weights, seed {seed}", flush=True)
        name = f"{RANDOM}-{seed}"
        write_random_weights(like, models / name, seed)
        one = dataclasses.replace(shared, seeds=[seed], model=str(models / name), output_dir=str(output_dir / name))
        parts.append(finetune_once(one))
    seeds = [dataclasses.replace(one, model=f"{RANDOM}-{one.seed}/{one.model}") for part in parts for one in part.seeds]
    metric = parts[0].metric
    return summarize(parts[0].task, metric, seeds, lower_is_better=metric in LOWER_IS_BETTER)


def table(results: Mapping[str, Results], split: str) -> str:
    """Return a line per checkpoint, every metric of one file as `mean ± deviation` over seeds."""
    names = list(results[RANDOM].mean[split])
    rows = [[f"step ({split})", *names]]
    for step, one in results.items():
        cells = [_cell(one.mean[split].get(name), one.std[split].get(name) if one.std else None) for name in names]
        rows.append([step if step == RANDOM else f"{int(step):,}", *cells])
    return align(rows)


def _cell(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def verdict(results: Mapping[str, Results], split: str) -> str:
    """Return what pretraining gains over random weights, and what its last stretch still gained."""
    metric = results[RANDOM].metric
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    scores = {step: one.mean[split][metric] for step, one in results.items()}
    steps = [step for step in results if step != RANDOM]
    last = steps[-1]
    noise = max(_deviation(results[RANDOM], split), _deviation(results[last], split))
    gain = sign * (scores[last] - scores[RANDOM])
    beyond = f"; the larger deviation of the two is {noise:.4f}" if noise else "; one seed says nothing of deviations"
    lines = [f"{metric}: step {int(last):,} is {gain:+.4f} better than random weights{beyond}"]
    if len(steps) > 1:
        before = steps[-2]
        more = sign * (scores[last] - scores[before])
        lines.append(f"from step {int(before):,} to {int(last):,} it gained {more:+.4f}")
    return "\n".join(lines)


def _deviation(results: Results, split: str) -> float:
    return 0.0 if results.std is None else results.std[split][results.metric]


def plot(results: Mapping[str, Results], split: str, output: Path) -> None:
    """Write a PNG: the score by pretraining step with bars of one deviation; random weights are step 0, and a line."""
    metric = results[RANDOM].metric
    steps = [0 if step == RANDOM else int(step) for step in results]
    means = [one.mean[split][metric] for one in results.values()]
    figure = Figure(figsize=(7.0, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.axhline(means[0], color=REFERENCE, linestyle="--", linewidth=1.2, label="random weights")
    noise = _deviation(results[RANDOM], split)
    axes.axhspan(means[0] - noise, means[0] + noise, color=REFERENCE, alpha=0.15, linewidth=0)
    deviations = [_deviation(one, split) for one in results.values()]
    axes.errorbar(steps, means, yerr=deviations, color=SCORE, marker="o", capsize=3, label="pretrained")
    axes.set_xlabel("pretraining step", color=INK)
    axes.set_ylabel(f"{metric} ({split} file)", color=INK)
    seeds = len(results[RANDOM].seeds)
    axes.set_title(f"{results[RANDOM].task}, {seeds} seed{'s' * (seeds > 1)}", loc="left", color=INK, fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(output)
