"""Numbers and times as people read them. Pure."""

import math
from datetime import UTC, datetime


def short_number(value: float) -> str:
    """Return a number in at most about six characters: 0.0012, 3.14, 950, 12.3k, 1.5M, 2e-05."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size < 1e-3 or size >= 1e15:
        return f"{value:.3g}"
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if letter == "k" else limit
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"


def counted(number: int, noun: str) -> str:
    """Return 1 host, 2 hosts."""
    return f"{number} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Return a length of time by its two largest units: 8 s, 3 min 20 s, 5 h 07 min, 12 d 4 h."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def moment(time: datetime) -> str:
    """Return a time as 2026-03-01 14:05:09 UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
