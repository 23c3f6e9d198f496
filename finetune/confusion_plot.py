"""A confusion matrix -> a PNG."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from finetune.classes import MAX_TABLE, Confusion

INK = "#333333"


def plot_confusion(confusion: Confusion, output: Path) -> None:
    """Write the matrix as shares of each row, with the counts in the cells where there is room for them."""
    counts = np.array(confusion.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows, columns = counts.shape
    cell = 0.6 if rows <= MAX_TABLE else 0.22
    figure = Figure(figsize=(3.0 + cell * columns, 2.0 + cell * rows), dpi=150, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    size = 9 if rows <= MAX_TABLE else 6
    axes.set_xticks(range(columns), confusion.columns, rotation=90 if columns > 4 else 0, fontsize=size, color=INK)
    axes.set_yticks(range(rows), confusion.rows, fontsize=size, color=INK)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("label", color=INK)
    axes.spines[:].set_visible(False)
    if rows <= MAX_TABLE:
        for row, column in np.ndindex(rows, columns):
            ink = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=ink)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    figure.savefig(output)
