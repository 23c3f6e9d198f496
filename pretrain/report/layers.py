"""A metric that there is one of for each layer -> an SVG with a row per layer, darker where it is greater."""

import re
from html import escape

import numpy as np

from pretrain.report.axes import Axis
from pretrain.report.chart import BOTTOM, LEFT, TOP, Frame, draw_steps, wrap
from pretrain.report.columns import Floats, MetricColumns
from pretrain.report.downsample import thin
from pretrain.report.wording import short_number
from pretrain.track.panels import Panel

COLUMNS = 60
# Of matplotlib's cividis, at even distances: rising lightness, the same for every kind of colour vision.
SHADES = ("#fee838", "#d2c060", "#a59c74", "#7d7c78", "#575d6d", "#213d6b", "#00224e")


def draw_layers(panel: Panel, columns: MetricColumns, frame: Frame) -> str | None:
    """Return the metrics whose names begin with `panel.layers` as an HTML figure; None when there are none."""
    rows = []
    for name in sorted((name for name in columns.names if name.startswith(panel.layers)), key=_natural):
        steps, values = columns.column(name)
        fit = np.isfinite(values) & (values > 0)
        if np.any(fit):
            points = thin(steps[fit], values[fit], COLUMNS)
            rows.append((name.removeprefix(panel.layers), points.steps, np.log10(points.mean)))
    if not rows:
        return None
    low, high = min(float(row[2].min()) for row in rows), max(float(row[2].max()) for row in rows)
    height = (BOTTOM - TOP) / len(rows)
    body = [
        _draw_row(label, x, levels, (low, high), frame.steps, TOP + index * height, height)
        for index, (label, x, levels) in enumerate(rows)
    ]
    return wrap(panel, _legend(low, high), [*body, draw_steps(frame)], "")


def _draw_row(
    label: str, steps: Floats, levels: Floats, reach: tuple[float, float], axis: Axis, top: float, height: float
) -> str:
    """Return a row of cells, each from the step before its own up to it."""
    edges = axis.place(np.concatenate([[0.0], steps]))
    size = min(height * 0.9, 11)
    parts = [
        f'<text class="row" style="font-size:{size:.1f}px" x="{LEFT - 6}" y="{top + height / 2:.1f}" dy="0.35em" '
        f'text-anchor="end">{escape(label)}</text>'
    ]
    for left, right, level in zip(edges, edges[1:], levels, strict=False):
        shade = _shade((level - reach[0]) / (reach[1] - reach[0]) if reach[1] > reach[0] else 0.5)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{height:.1f}" fill="{shade}">'
            f"<title>{escape(label)}: {short_number(10**level)}</title></rect>"
        )
    return "".join(parts)


def _legend(low: float, high: float) -> str:
    cells = "".join(f'<i style="background:{shade}"></i>' for shade in SHADES)
    return f'<span class="key shades">{short_number(10**low)} {cells} {short_number(10**high)}</span>'


def _shade(share: float) -> str:
    return SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layers.2 before layers.10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
