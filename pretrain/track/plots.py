"""`metrics.jsonl` -> the loss curve of a run as a PNG. `python -m pretrain.track.plots RUN_DIR [--output FILE]`."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pretrain.track.metrics import Record
from pretrain.track.metrics_file import METRICS_FILE, read_metrics

PLOT_FILE = "loss.png"

# Okabe and Ito's palette: told apart by readers with any kind of colour vision, and on paper.
TRAINING, HELD_OUT, ACCURACY, HELD_OUT_ACCURACY = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
REFERENCE, INK = "#8A8A8A", "#333333"
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 1.6, "columnspacing": 1.4}
SMOOTHED_POINTS = 40  # a curve shows about this many independent means; below twice as many points it shows them all


def plot_losses(metrics_file: Path, output: Path) -> None:
    """Write a PNG (`output`) of masked-token losses and, where there are any, next-sentence loss and accuracy.

    Training curves are thin with a bold running mean; held-out results are marked points; the unigram entropy of
    the held-out labels is what a model that knows only word frequencies would reach. Dotted lines are resumes.
    Raises ValueError when the file does not exist, cannot be read, or holds no loss.
    """
    records = read_metrics(metrics_file)
    if not series(records, "mlm_loss")[1]:
        raise ValueError(f"{metrics_file} holds no finite mlm_loss: nothing to draw before the first logged step")
    with_pairs = bool(series(records, "nsp_loss")[1])
    heights = [2.2, 1.0] if with_pairs else [1.0]
    figure = Figure(figsize=(8.0, 6.4 if with_pairs else 4.6), dpi=150, layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    _draw_masked_tokens(axes[0], records)
    if with_pairs:
        _draw_pairs(axes[1], records)
        _draw_resumes(axes[1], records, label=None)
    for panel in axes:
        _dress(panel)
    axes[-1].set_xlabel("optimizer step", color=INK)
    figure.savefig(output)


def _draw_masked_tokens(panel: Any, records: list[Record]) -> None:
    _draw_curve(panel, *series(records, "mlm_loss"), TRAINING, "training")
    _draw_points(panel, *series(records, "held_out_mlm_loss"), HELD_OUT, "held-out")
    entropy = series(records, "held_out_unigram_entropy")[1]
    if entropy:
        label = f"unigram entropy of the held-out labels: {entropy[-1]:.2f}"
        panel.axhline(entropy[-1], color=REFERENCE, linestyle="--", linewidth=1.2, label=label)
    panel.set_ylabel("masked-token loss (nats)", color=INK)
    held_out = series(records, "held_out_mlm_loss")[1]
    _draw_resumes(panel, records, label="resumed")
    panel.legend(loc="upper right", **LEGEND)
    panel.set_title(_title(held_out, entropy), loc="left", color=INK, fontsize=11)


def _draw_pairs(panel: Any, records: list[Record]) -> None:
    _draw_curve(panel, *series(records, "nsp_loss"), TRAINING, "training loss")
    _draw_points(panel, *series(records, "held_out_nsp_loss"), HELD_OUT, "held-out loss")
    _draw_curve(panel, *series(records, "nsp_accuracy"), ACCURACY, "training accuracy")
    _draw_points(panel, *series(records, "held_out_nsp_accuracy"), HELD_OUT_ACCURACY, "held-out accuracy")
    panel.set_ylabel("next sentence\nloss (nats), accuracy", color=INK)
    panel.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, **LEGEND)


def _title(held_out: Sequence[float], entropy: Sequence[float]) -> str:
    if not held_out:
        return "Pretraining loss"
    text = f"Held-out masked-token loss {held_out[-1]:.2f}"
    if not entropy:
        return text
    gap = entropy[-1] - held_out[-1]
    return f"{text}, {abs(gap):.2f} nats {'below' if gap >= 0 else 'above'} unigram entropy"


def series(records: list[Record], key: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of the records that have a finite number under `key`."""
    steps: list[int] = []
    values: list[float] = []
    for record in records:
        step, value = record["step"], record.get(key)
        if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
            steps.append(step)
            values.append(value)
    return steps, values


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return, for each value, the mean of `window` values around it, fewer near the ends.

    It looks no further ahead than back, so that a steep start stays steep.
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for i in range(len(values)):
        back = min(window // 2, i)
        ahead = min(back, len(values) - 1 - i)
        means.append((sums[i + ahead + 1] - sums[i - back]) / (ahead + back + 1))
    return means


def _draw_curve(panel: Any, steps: list[int], values: list[float], color: str, label: str) -> None:
    window = len(values) // SMOOTHED_POINTS
    if window < 2:
        marker = "" if len(values) > 1 else "o"  # one value makes no line
        panel.plot(steps, values, color=color, linewidth=1.8, marker=marker, label=label)
        return
    panel.plot(steps, values, color=color, linewidth=0.8, alpha=0.3)
    panel.plot(steps, running_mean(values, window), color=color, linewidth=1.8, label=label)


def _draw_points(panel: Any, steps: list[int], values: list[float], color: str, label: str) -> None:
    if steps:
        panel.plot(steps, values, color=color, linewidth=1.0, marker="o", markersize=5, label=label)


def _draw_resumes(panel: Any, records: list[Record], label: str | None) -> None:
    for record in records:
        if record.get("resumed"):
            panel.axvline(record["step"], color=INK, linestyle=":", linewidth=1.2, label=label)
            label = None  # one legend entry for all of them


def _dress(panel: Any) -> None:
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(color="#E4E4E4", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.margins(x=0.01)
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the curve of a run directory; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pretrain.track.plots", description="Draw the loss curve of a run.")
    parser.add_argument("run_dir", type=Path, help="a directory with metrics.jsonl")
    parser.add_argument("--output", type=Path, help=f"PNG to write (default: RUN_DIR/{PLOT_FILE})")
    options = parser.parse_args(arguments)
    output = options.output or options.run_dir / PLOT_FILE
    try:
        plot_losses(options.run_dir / METRICS_FILE, output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
