from datetime import datetime, timedelta, timezone

import pytest

from pretrain.report.wording import duration, moment, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.23456, "1.235"),
        (950, "950"),
        (9999, "9999"),
        (12345, "12.35k"),
        (-2_500_000, "-2.5M"),
        (3.2e9, "3.2G"),
        (0.00002, "2e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1e30, "1e+30"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (5 * 3600 + 420, "5 h 07 min"), (1_051_200, "12 d 4 h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_is_told_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert moment(datetime(2026, 3, 1, 14, 5, 9, tzinfo=east)) == "2026-03-01 12:05:09 UTC"
