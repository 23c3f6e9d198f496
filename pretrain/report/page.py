"""A run's history -> one HTML page that needs no network: style, script and plots are inside it."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from pretrain.report.chart import Frame, draw_chart
from pretrain.report.cost import Cost, reckon_cost, seconds_left
from pretrain.report.history import History, PhaseSpan
from pretrain.report.layers import draw_layers
from pretrain.report.standing import Told, describe_events, describe_standing
from pretrain.report.timeline import MARKS, draw_timeline
from pretrain.report.wording import duration, moment, short_number
from pretrain.track.panels import SECTIONS, Section
from pretrain.track.run_files import CONFIG_FILE

# Nothing is fetched, whatever the page holds: a browser that is asked to do so refuses, and says it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
LEGEND = (
    '<p class="soft">Plots are over the optimizer step. Dotted lines: the run went on from a checkpoint; lines with a '
    "name: a phase begins. Of long runs a curve is the mean of stretches, in a band from their least to their greatest "
    "value.</p>"
)
NEWEST_EVENTS = 12  # are shown; those before them are folded away
PHASE_COLUMNS = (
    ("masked-token loss", "mlm_loss"),
    ("accuracy", "mlm_accuracy"),
    ("held-out loss", "held_out_mlm_loss"),
    ("held-out accuracy", "held_out_mlm_accuracy"),
    ("pair loss", "nsp_loss"),
    ("pair accuracy", "nsp_accuracy"),
    ("tokens/s", "tokens_per_second"),
)


def render_page(history: History, *, now: datetime, cost_per_hour: float | None) -> str:
    """Return the page. `cost_per_hour` is the price of one device for an hour, in any currency."""
    folder = Path(__file__).parent
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    name = escape(history.run_dir.resolve().name)
    body = [
        _head(history, now),
        _facts(history),
        _lives(history),
        _cost(reckon_cost(history), cost_per_hour),
        _phases(history),
        *_sections(history),
        _config(history.run_dir / CONFIG_FILE),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: pretraining report</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{style}</style></head>\n<body>\n{chr(10).join(part for part in body if part)}\n"
        f"<script>{script}</script></body></html>\n"
    )


def _head(history: History, now: datetime) -> str:
    total, step = history.total_steps, history.step
    of_total = f" of {total:,} ({step / total:.1%})" if total else ""
    bar = f'<div class="bar"><div style="width:{min(step / total, 1):.2%}"></div></div>' if total else ""
    torn = history.columns.unreadable_lines
    warning = f"<p>{torn} line(s) of metrics.jsonl cannot be read; the next start moves them aside.</p>" if torn else ""
    run_id = f"run {escape(history.run_id)}, " if history.run_id else ""
    return (
        f"<header><h1>{escape(str(history.run_dir))}</h1>"
        f"<p><b>{escape(describe_standing(history, now))}</b></p>{bar}"
        f'<p>step {step:,}{of_total} <span class="soft">· {run_id}seen {moment(now)}</span></p>{warning}</header>'
    )


def _facts(history: History) -> str:
    columns, left = history.columns, seconds_left(history)
    is_over = history.status.get("state") == "done"
    facts = [
        ("masked-token loss", _newest(history, "mlm_loss")),
        ("held-out masked-token loss", _newest(history, "held_out_mlm_loss")),
        ("real tokens per second", _newest(history, "tokens_per_second")),
        ("of the devices' peak (MFU)", _newest(history, "mfu")),
        ("tokens seen", _newest(history, "tokens_seen")),
        ("epochs", _newest(history, "epoch")),
        ("skipped steps", short_number(columns.newest("skipped_steps") or 0) if columns.lines else None),
        ("newest checkpoint", history.checkpoint),
        ("left at this pace, steps only", None if left is None or is_over else duration(left)),
    ]
    shown = [f"<div><b>{escape(value)}</b>{escape(label)}</div>" for label, value in facts if value is not None]
    return f'<div class="facts">{"".join(shown)}</div>'


def _newest(history: History, metric: str) -> str | None:
    value = history.columns.newest(metric)
    return None if value is None else short_number(value)


def _lives(history: History) -> str:
    if not history.lives:
        return "<h2>Events</h2><p>None on record: this run was made by a release without events.jsonl.</p>"
    legend = ", ".join(f"{mark} {ending}" for ending, mark in MARKS.items())
    told = [*describe_events(history.events)]
    earlier, newest = told[:-NEWEST_EVENTS], told[-NEWEST_EVENTS:]
    folded = f"<details><summary>{len(earlier)} earlier ones</summary>{_events(earlier)}</details>" if earlier else ""
    return (
        f'<h2>Events</h2><div class="wide">{draw_timeline(history.lives)}</div><p class="soft">Each bar is one start, '
        f"as high as its ranks were many; at its end: {legend}. Times are UTC.</p>{folded}{_events(newest)}"
    )


def _events(told: Sequence[Told]) -> str:
    rows = "".join(f"<tr><td>{moment(event.time)}</td><td>{escape(event.text)}</td></tr>" for event in told)
    return f'<div class="wide"><table class="events">{rows}</table></div>'


def _cost(cost: Cost | None, cost_per_hour: float | None) -> str:
    if cost is None:
        return ""
    rows = [
        ("so far", cost.spent, ""),
        ("of it on steps that count", cost.on_steps, f"{cost.on_steps / cost.spent:.1%} of it" if cost.spent else ""),
        ("the remaining steps, at this pace", cost.to_come, ""),
        ("whole run: plan, steps only", cost.planned, ""),
        (
            "whole run: expected",
            cost.expected,
            f"{cost.expected / cost.planned - 1:+.1%} against plan" if cost.planned else "",
        ),
    ]
    money = "" if cost_per_hour is None else f"<th>cost at {cost_per_hour:,g} an hour</th>"
    body = "".join(
        f"<tr><td>{label}</td><td>{hours:,.2f}</td>"
        + ("" if cost_per_hour is None else f"<td>{hours * cost_per_hour:,.2f}</td>")
        + f"<td>{note}</td></tr>"
        for label, hours, note in rows
    )
    return (
        f'<h2>Cost</h2><div class="wide"><table><tr><th></th><th>device-hours</th>{money}<th></th></tr>{body}</table>'
        '</div><p class="soft">A device is what one rank computes on. Besides steps that count, time goes to starts, '
        "evaluation, saves, and steps that ran again after a kill; no more of that is expected from here on.</p>"
    )


def _phases(history: History) -> str:
    present = [column for column in PHASE_COLUMNS if column[1] in history.columns.names]
    begun = [phase for phase in history.phases if phase.first_step < history.columns.step]
    if not begun or not present:
        return ""
    head = "".join(f"<th>{label}</th>" for label, _ in present)
    rows = "".join(_phase_row(history, phase, [metric for _, metric in present]) for phase in begun)
    return (
        f'<h2>Phases</h2><div class="wide"><table><tr><th>phase</th><th>steps</th>{head}</tr>{rows}</table></div>'
        '<p class="soft">Newest values; tokens per second: the mean over the lines of the phase.</p>'
    )


def _phase_row(history: History, phase: PhaseSpan, metrics: Sequence[str]) -> str:
    cells = []
    for metric in metrics:
        steps, values = history.columns.column(metric)
        own = values[(steps > phase.first_step) & (steps <= phase.last_step)]
        value = None if not len(own) else np.mean(own) if metric == "tokens_per_second" else own[-1]
        cells.append(f"<td>{'–' if value is None else short_number(float(value))}</td>")
    done = min(history.columns.step, phase.last_step) - phase.first_step
    steps_told = f"{done:,} of {phase.last_step - phase.first_step:,}"
    return f"<tr><td>{escape(phase.name)}</td><td>{steps_told}</td>{''.join(cells)}</tr>"


def _sections(history: History) -> list[str]:
    columns = history.columns
    if not columns.lines:
        return ["<p>No step is logged yet.</p>"]
    frame = Frame(last_step=columns.step, phases=history.phases, resumed_at=columns.resumed_at)
    first, *others = [_section(section, history, frame) for section in SECTIONS]
    return [first, LEGEND, *others]


def _section(section: Section, history: History, frame: Frame) -> str:
    drawn = [
        draw_layers(panel, history.columns, frame) if panel.layers else draw_chart(panel, history.columns, frame)
        for panel in section.panels
    ]
    figures = "".join(figure for figure in drawn if figure is not None)
    return f'<h2>{escape(section.title)}</h2><div class="panels">{figures}</div>' if figures else ""


def _config(path: Path) -> str:
    if not path.is_file():
        return ""
    text = escape(path.read_text(encoding="utf-8"))
    return f"<h2>Config</h2><details><summary>{CONFIG_FILE}, resolved</summary><pre>{text}</pre></details>"
