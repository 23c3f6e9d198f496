"""A live view of a run in a terminal, over ssh too. It reads the run's files, so the run knows nothing of it."""

import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pretrain.report.columns import MetricColumns
from pretrain.report.cost import reckon_cost, seconds_left
from pretrain.report.downsample import thin
from pretrain.report.history import History, read_history
from pretrain.report.standing import describe_events, describe_standing
from pretrain.report.wording import duration, short_number

LABEL_WIDTH = 18
VALUE_WIDTH = 11
NUM_EVENTS, LEAST_EVENTS = 5, 3
ROUNDING = 1e-9  # of the values: means of equal ones may differ by so much
BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
CURVES = (
    ("masked-token loss", "mlm_loss"),
    ("accuracy", "mlm_accuracy"),
    ("held-out loss", "held_out_mlm_loss"),
    ("pair accuracy", "nsp_accuracy"),
    ("learning rate", "learning_rate"),
    ("gradient norm", "grad_norm"),
    ("tokens/s", "tokens_per_second"),
    ("MFU", "mfu"),
    ("data wait, share", "data_wait_fraction"),
    ("memory, GB", "memory_gb"),
    ("slowest rank", "slowest_rank"),
    ("skipped steps", "skipped_steps"),
)
CLEAR_REST_OF_LINE, CLEAR_BELOW, HOME = "\x1b[K", "\x1b[J", "\x1b[H"
OTHER_SCREEN, OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"  # with the cursor hidden and shown


def watch(run_dir: Path, *, every_seconds: float) -> None:
    """Show the run until Ctrl-C; then leave the last frame on the terminal. Raises ValueError as `read_history`."""
    columns = MetricColumns(run_dir)
    frame = [""]
    sys.stdout.write(OTHER_SCREEN)
    try:
        while True:
            size = shutil.get_terminal_size()
            history, height = read_history(run_dir, columns), size.lines - 1  # below is where the cursor rests
            frame = draw_frame(history, now=datetime.now(UTC), width=size.columns, height=height)
            lines = "".join(f"{line}{CLEAR_REST_OF_LINE}\n" for line in frame[:height])
            sys.stdout.write(f"{HOME}{lines}{CLEAR_BELOW}")
            sys.stdout.flush()
            time.sleep(every_seconds)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(OWN_SCREEN)
    print("\n".join(frame))


def print_once(run_dir: Path) -> None:
    """Print one frame. Raises ValueError as `read_history`."""
    width = shutil.get_terminal_size().columns
    print("\n".join(draw_frame(read_history(run_dir, MetricColumns(run_dir)), now=datetime.now(UTC), width=width)))


def draw_frame(history: History, *, now: datetime, width: int, height: int | None = None) -> list[str]:
    """Return the lines of a view, each of at most `width` characters.

    Where `height` lines cannot hold all of them, old events go first, then curves, the last ones first.
    """
    head = [str(history.run_dir), describe_standing(history, now), _progress(history, width), *_whereabouts(history)]
    curves = _curves(history, width)
    events = [f"{told.time:%m-%d %H:%M:%S}  {told.text}" for told in describe_events(history.events)][-NUM_EVENTS:]
    if height is not None:
        room = height - len(head) - 2
        events = events[-max(LEAST_EVENTS, room - len(curves)) :]
        curves = curves[: max(0, room - len(events))]
    return [_printable(line)[:width] for line in [*head, "", *curves, "", *events]]


def _progress(history: History, width: int) -> str:
    total, step, left = history.total_steps, history.step, seconds_left(history)
    if not total:
        return f"step {step:,}"
    text = f"step {step:,} of {total:,} ({step / total:.1%})"
    if left is not None and step < total:
        text += f", {duration(left)} left, steps only"
    length = max(0, min(width - len(text) - 4, 40))
    full = round(min(step / total, 1) * length)
    return f"{text}  [{'#' * full}{'.' * (length - full)}]"


def _whereabouts(history: History) -> list[str]:
    parts = []
    if history.phases:
        phase = history.phases[history.phase]
        parts.append(f"phase {history.phase + 1} of {len(history.phases)} ({phase.name})")
    if history.lives:
        life = history.lives[-1]
        parts.append(f"on {life.engine}, for {duration(life.seconds)}")
    lines = [", ".join(parts)] if parts else []
    cost = reckon_cost(history)
    spent = f"; {cost.spent:,.2f} device-hours of about {cost.expected:,.2f}" if cost else ""
    return [*lines, f"newest checkpoint: {history.checkpoint or 'none yet'}{spent}"]


def _curves(history: History, width: int) -> list[str]:
    rows = []
    for label, metric in CURVES:
        newest = history.columns.newest(metric)
        if newest is not None:
            room = max(0, width - LABEL_WIDTH - VALUE_WIDTH - 2)
            line = sparkline(history.columns.column(metric)[1], min(room, 60))
            rows.append(f"{label:{LABEL_WIDTH}}{short_number(newest):>{VALUE_WIDTH}}  {line}")
    return rows or ["no step is logged yet"]


def sparkline(values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]], width: int) -> str:
    """Return the finite values, oldest first, as at most `width` bars between their least and greatest mean."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or width < 1:
        return ""
    means = thin(finite, finite, width).mean
    reach = float(means.max() - means.min())
    bars = BARS if _can_print(BARS) else PLAIN_BARS
    is_flat = reach <= ROUNDING * float(np.abs(means).max())
    levels = np.zeros(len(means)) if is_flat else (means - means.min()) / reach * (len(bars) - 1)
    return "".join(bars[round(level)] for level in levels.tolist())


def _printable(line: str) -> str:
    """Return `line` without what would move the cursor: reasons are errors' own words, line ends and all."""
    return "".join(character if character.isprintable() else " " for character in line)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
