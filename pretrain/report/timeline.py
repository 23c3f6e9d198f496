"""The lives of a run -> an SVG: bars over the clock, as high as their ranks were many, marked by how they ended."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from pretrain.report.history import Life
from pretrain.report.wording import duration, moment

WIDTH, HEIGHT = 1140, 130
LEFT, RIGHT, TOP, BOTTOM = 58, 1105, 22, 96
LEAST_WIDTH = 2.0  # pixels: a life of seconds in a run of weeks is seen too
MARKS = {"done": "✓", "stopped": "■", "failed": "!", "killed": "✕", "running": "▸"}
STEPS_OF_TIME = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 28 * 86400]  # seconds
MOST_TIMES = 9  # on the axis


def draw_timeline(lives: Sequence[Life]) -> str:
    """Return the SVG. `lives` are one at least, oldest first."""
    begin, end = lives[0].start, max(life.end for life in lives)
    scale = (RIGHT - LEFT) / max((end - begin).total_seconds(), 1.0)
    most = max(life.world_size for life in lives)
    parts = [f'<svg class="timeline" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Time line of the run">']
    parts += [_draw_time(time, LEFT + (time - begin).total_seconds() * scale) for time in round_times(begin, end)]
    for life in lives:
        parts.append(_draw_life(life, LEFT + (life.start - begin).total_seconds() * scale, scale, most))
    parts.append(f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{most}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{BOTTOM}" text-anchor="end">ranks</text></svg>')
    return "".join(parts)


def _draw_life(life: Life, x: float, scale: float, most: int) -> str:
    width = max(life.seconds * scale, LEAST_WIDTH)
    top = BOTTOM - (BOTTOM - TOP) * life.world_size / most
    reason = f" ({life.reason})" if life.reason else ""
    told = (
        f"{moment(life.start)}: from step {life.first_step:,} on {life.engine}; {life.ending}{reason} "
        f"at step {life.last_step:,} after {duration(life.seconds)}"
    )
    return (
        f'<g class="life {escape(str(life.ending))}"><rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{BOTTOM - top:.1f}"><title>{escape(told)}</title></rect>'
        f'<text x="{x + width:.1f}" y="{top - 5:.1f}" text-anchor="middle">{MARKS.get(life.ending, "?")}</text></g>'
    )


def round_times(begin: datetime, end: datetime) -> list[datetime]:
    """Return round times (UTC) from `begin` to `end`, at most `MOST_TIMES`."""
    span = (end - begin).total_seconds()
    step = next((step for step in STEPS_OF_TIME if span / step < MOST_TIMES), STEPS_OF_TIME[-1])
    while span / step >= MOST_TIMES:
        step *= 2
    first = -(-begin.timestamp() // step) * step
    times = [datetime.fromtimestamp(first, UTC) + number * timedelta(seconds=step) for number in range(MOST_TIMES + 1)]
    return [time for time in times if time <= end]


def _draw_time(time: datetime, x: float) -> str:
    text = f"{time:%m-%d %H:%M}"
    return (
        f'<g class="grid"><line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{text}</text></g>'
    )
