"""Change: its interval is made of both measurements, and growth is what the guidelines say."""

from __future__ import annotations

import math

import pytest

from resmtnet.findings import Size
from resmtnet.followup.change import (
    GROWING,
    MAYBE_GROWING,
    MAYBE_SMALLER,
    REPEATABILITY,
    SMALLER,
    STABLE,
    Change,
    bts,
    change_of,
    doubling_time,
    lung_rads_growth,
    trend,
)


def sized(mm3: float, factor: float | None = 1.25) -> Size:
    interval = {} if factor is None else {"volume_mm3": (mm3 / factor, mm3 * factor)}
    return Size(volume_mm3=mm3, interval_90=interval)


def test_interval_is_made_of_both_half_widths() -> None:
    change = change_of("volume_mm3", sized(100, 1.2), sized(160, 1.5))
    assert change is not None
    assert change.ratio_interval_90 is not None
    half = REPEATABILITY["volume_mm3"] * math.hypot(math.log(1.2), math.log(1.5))
    assert change.ratio_interval_90 == pytest.approx((1.6 * math.exp(-half), 1.6 * math.exp(half)))


def test_wider_intervals_of_the_sizes_make_a_wider_one_of_the_change() -> None:
    narrow, wide = (change_of("volume_mm3", sized(100, f), sized(100, f)) for f in (1.1, 1.6))
    assert narrow is not None
    assert wide is not None
    assert narrow.ratio_interval_90[1] < wide.ratio_interval_90[1]  # type: ignore[index]


def test_a_size_without_an_interval_gives_a_change_without_one() -> None:
    change = change_of("volume_mm3", sized(100, None), sized(150))
    assert change is not None
    assert change.ratio_interval_90 is None
    assert change.to_json()["percent_interval_90"] is None
    assert trend(change) == MAYBE_GROWING


def test_what_was_not_measured_has_no_change() -> None:
    assert change_of("volume_mm3", Size(), sized(100)) is None
    assert trend(None) is None


@pytest.mark.parametrize(
    ("ratio", "interval", "word"),
    [
        (1.6, (1.2, 2.1), GROWING),
        (1.3, (0.95, 1.8), MAYBE_GROWING),
        (1.2, (1.1, 1.3), STABLE),
        (0.85, (0.8, 0.9), STABLE),
        (0.7, (0.5, 1.02), MAYBE_SMALLER),
        (0.6, (0.5, 0.8), SMALLER),
    ],
)
def test_trend(ratio: float, interval: tuple[float, float], word: str) -> None:
    assert trend(Change(100.0, 100.0 * ratio, interval)) == word


def test_percent_and_difference_are_of_the_prior() -> None:
    told = Change(200.0, 300.0, (1.2, 1.9)).to_json()
    assert told["difference"] == pytest.approx(100)
    assert told["percent"] == pytest.approx(50)
    assert told["difference_interval_90"] == pytest.approx([40, 180])
    assert told["percent_interval_90"] == pytest.approx([20, 90])


@pytest.mark.parametrize(("ratio", "days"), [(1.24, 90), (0.8, 90), (2.0, 0), (2.0, None)])
def test_no_doubling_time_below_25_percent_growth_or_without_two_dates(
    ratio: float, days: int | None
) -> None:
    assert doubling_time(Change(100.0, 100 * ratio, (ratio / 1.2, ratio * 1.2)), days) is None


def test_doubling_time_has_the_interval_of_the_change() -> None:
    told = doubling_time(Change(100.0, 200.0, (2**0.5, 4.0)), 100)
    assert told is not None
    assert told["days"] == pytest.approx(100)
    assert told["interval_90_days"] == pytest.approx([50, 200])
    assert told["fast"]
    slow = doubling_time(Change(100.0, 130.0, (1.1, 1.6)), 365)
    assert slow is not None
    assert not slow["fast"]


def test_bts_growth_is_25_percent() -> None:
    assert bts(Change(100.0, 125.0))["growth"] is True
    assert bts(Change(100.0, 124.0))["growth"] is False
    assert bts(None)["growth"] is None


@pytest.mark.parametrize(
    ("mm", "days", "growth"),
    [(7.6, 365, True), (7.5, 365, False), (7.6, 366, True), (7.6, 367, None), (9.0, None, None)],
)
def test_lung_rads_growth_is_more_than_1_5_mm_within_12_months(
    mm: float, days: int | None, growth: bool | None
) -> None:
    told = lung_rads_growth(Change(6.0, mm), days)
    assert told["growth"] is growth
    assert "mm" in told["note"]
    if growth is None:
        assert "no verdict" in told["note"]
