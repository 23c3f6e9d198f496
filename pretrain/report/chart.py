"""A panel's curves -> an SVG with its caption, and the points that the page shows under the pointer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pretrain.report.axes import Axis, padded_range
from pretrain.report.columns import Floats, MetricColumns
from pretrain.report.downsample import Points, pick, thin
from pretrain.report.history import PhaseSpan
from pretrain.report.wording import short_number
from pretrain.track.panels import Curve, Panel

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 550, 12, 222
FEW_POINTS = 60  # more are drawn light, with a bold curve of so many means before them


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all charts of a page share: the steps they cover, phases after the first, and where the run went on."""

    last_step: int
    phases: Sequence[PhaseSpan]
    resumed_at: Sequence[int]

    @property
    def steps(self) -> Axis:
        """The axis of steps."""
        return Axis(low=0, high=max(self.last_step, 1), first_pixel=LEFT, last_pixel=RIGHT, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A curve's values that can be drawn."""

    curve: Curve
    steps: Floats
    values: Floats
    left_out: int  # not finite, or not above 0 on a logarithmic axis


def draw_chart(panel: Panel, columns: MetricColumns, frame: Frame) -> str | None:
    """Return a panel as an HTML figure; None when the run has logged nothing of it, or nothing worth drawing."""
    curves = [drawn for curve in panel.curves if len((drawn := select(curve, columns, panel.logarithmic)).values)]
    if not curves or (panel.unless_zero and not any(np.any(drawn.values) for drawn in curves)):
        return None
    level = None if panel.reference is None else columns.newest(panel.reference.metric)
    levels = [] if level is None or not np.isfinite(level) else [level]
    shorten, draw = (pick, _draw_dots) if panel.scattered else (thin, _draw_curve)
    points = [shorten(drawn.steps, drawn.values) for drawn in curves]
    low, high = padded_range(
        [*(float(each.low.min()) for each in points), *levels],
        [*(float(each.high.max()) for each in points), *levels],
        logarithmic=panel.logarithmic,
        from_zero=panel.from_zero,
    )
    axis = Axis(
        low=low, high=high, first_pixel=BOTTOM, last_pixel=TOP, logarithmic=panel.logarithmic, whole=panel.whole
    )
    body = [draw_background(axis, frame)]
    body += [draw_level(axis, level) for level in levels]
    body += [draw(axis, frame, index, *pair) for index, pair in enumerate(zip(curves, points, strict=True))]
    return wrap(panel, _legend(panel, curves, levels), body, _pointer_data(curves, points, frame))


def select(curve: Curve, columns: MetricColumns, logarithmic: bool) -> Drawn:
    """Return what can be drawn of a curve's column."""
    steps, values = columns.column(curve.metric)
    fit = np.isfinite(values) & ((values > 0) | (not logarithmic))
    return Drawn(curve=curve, steps=steps[fit], values=values[fit], left_out=int(np.sum(~fit)))


def draw_background(axis: Axis, frame: Frame) -> str:
    """Return grid, marks of both axes, phases and resumes."""
    parts = ['<g class="grid">']
    for value, y in _placed(axis):
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{short_number(value)}</text>')
    parts.append("</g>" + draw_steps(frame))
    return "".join(parts)


def draw_steps(frame: Frame) -> str:
    """Return the marks of the axis of steps, and lines where phases begin and where the run went on."""
    parts = [f'<g class="grid"><text x="{LEFT - 10}" y="{BOTTOM + 18}" text-anchor="end">step</text>']
    for value, x in _placed(frame.steps):
        parts.append(f'<text x="{x}" y="{BOTTOM + 18}" text-anchor="middle">{short_number(value)}</text>')
    parts.append('</g><g class="marks">')
    for step in frame.resumed_at:
        x = _pixel(frame.steps, step)
        parts.append(f'<line class="resume" x1="{x}" x2="{x}" y1="{TOP}" y2="{BOTTOM}"/>')
    for phase in frame.phases[1:]:
        if phase.first_step < frame.last_step:
            x = _pixel(frame.steps, phase.first_step)
            parts.append(f'<line class="phase" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{BOTTOM}"/>')
            side = 'dx="3"' if 2 * phase.first_step < frame.last_step else 'dx="-3" text-anchor="end"'
            parts.append(f'<text x="{x}" {side} y="{TOP}">{escape(phase.name)}</text>')
    return "".join([*parts, "</g>"])


def draw_level(axis: Axis, level: float) -> str:
    """Return a dashed line across the plot."""
    y = _pixel(axis, level)
    return f'<line class="level" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'


def wrap(panel: Panel, legend: str, body: Sequence[str], pointer_data: str) -> str:
    """Return an HTML figure of an SVG's parts."""
    return (
        f'<figure><figcaption><b>{escape(panel.title)}</b> <span class="unit">{escape(panel.unit)}</span>{legend}'
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(panel.title)}">'
        f"{''.join(body)}</svg>{pointer_data}</figure>"
    )


def _draw_curve(axis: Axis, frame: Frame, index: int, drawn: Drawn, points: Points) -> str:
    x = frame.steps.place(points.steps)
    parts = []
    if points.is_thinned:
        outline = _path(np.concatenate([x, x[::-1]]), axis.place(np.concatenate([points.high, points.low[::-1]])))
        parts.append(f'<path class="band c{index}" d="{outline}Z"/>')
    is_light = len(points.mean) > 2 * FEW_POINTS and not drawn.curve.sparse
    line = "light" if is_light else "line"
    parts.append(f'<path class="{line} c{index}" d="{_path(x, axis.place(points.mean))}"/>')
    if is_light:
        bold = thin(drawn.steps, drawn.values, FEW_POINTS)
        parts.append(f'<path class="line c{index}" d="{_path(frame.steps.place(bold.steps), axis.place(bold.mean))}"/>')
    if len(x) <= FEW_POINTS and (drawn.curve.sparse or len(x) == 1):
        parts.append(_draw_dots(axis, frame, index, drawn, points))
    return "".join(parts)


def _draw_dots(axis: Axis, frame: Frame, index: int, drawn: Drawn, points: Points) -> str:
    radius = max(3.5 - index, 1.5)  # a dot does not hide that of the curve before it
    dots = zip(frame.steps.place(points.steps), axis.place(points.mean), strict=True)
    return "".join(f'<circle class="c{index}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in dots)


def _legend(panel: Panel, curves: Sequence[Drawn], levels: Sequence[float]) -> str:
    parts = []
    for index, drawn in enumerate(curves):
        label = "" if drawn.curve.label == panel.title.lower() else f"{escape(drawn.curve.label)} "
        text = f"{label}{short_number(float(drawn.values[-1]))}"
        text += f" ({drawn.left_out} not drawn: not finite)" if drawn.left_out else ""
        parts.append(f'<span class="key"><i class="c{index}"></i>{text}</span>')
    if levels and panel.reference is not None:
        text = f"{escape(panel.reference.label)} {short_number(levels[0])}"
        parts.append(f'<span class="key"><i class="level"></i>{text}</span>')
    return "".join(parts)


def _pointer_data(curves: Sequence[Drawn], points: Sequence[Points], frame: Frame) -> str:
    content = {
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
        "last_step": frame.steps.high,
        "curves": [
            {
                "label": drawn.curve.label,
                "steps": [round(step) for step in each.steps.tolist()],
                "values": [short_number(value) for value in each.mean.tolist()],
            }
            for drawn, each in zip(curves, points, strict=True)
        ],
    }
    return f'<script type="application/json">{json.dumps(content).replace("<", chr(92) + "u003c")}</script>'


def _placed(axis: Axis) -> list[tuple[float, str]]:
    return [(value, _pixel(axis, value)) for value in axis.marks()]


def _pixel(axis: Axis, value: float) -> str:
    return f"{float(axis.place(np.array([value]))[0]):.1f}"


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
