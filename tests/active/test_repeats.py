"""Some studies are offered to their reader again: after a while, once, and only to that reader."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from resmtnet.active.leases import Offers
from resmtnet.active.repeats import Repeats
from resmtnet.readings.record import REPEAT, Reading

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
THERE = {"old", "recent", "of-bob"}


def read(image: str, reader: str, days_ago: int, purpose: str | None = None) -> Reading:
    made_at = NOW - timedelta(days=days_ago)
    return Reading(image, reader, (0.0, 0.0, 0.0), malignancy=2, made_at=made_at, purpose=purpose)


@pytest.fixture
def readings() -> list[Reading]:
    return [read("old", "ann", 14), read("recent", "ann", 13), read("of-bob", "bob", 99)]


@pytest.fixture
def repeats(tmp_path: Path, readings: list[Reading]) -> Callable[[float], Repeats]:
    def make(share: float) -> Repeats:
        return Repeats(share, lambda: readings, Offers(tmp_path / "repeats.sqlite"), lambda: NOW)

    return make


def offered(repeats: Repeats, reader: str, count: int = 1) -> list[str | None]:
    generator = np.random.default_rng(0)
    return [repeats.offer(reader, THERE, generator) for _ in range(count)]


def test_a_reader_gets_what_that_reader_read_two_weeks_ago(
    repeats: Callable[[float], Repeats],
) -> None:
    assert offered(repeats(1.0), "ann") == ["old"]
    assert repeats(1.0).is_repeat("old", "ann")
    assert not repeats(1.0).is_repeat("old", "bob")
    assert not repeats(1.0).is_repeat("recent", "ann")


def test_by_default_nothing_is_offered_again(repeats: Callable[[float], Repeats]) -> None:
    assert offered(repeats(0.0), "ann", 50) == [None] * 50


def test_the_share_is_that_of_the_offers(repeats: Callable[[float], Repeats]) -> None:
    again = sum(one is not None for one in offered(repeats(0.25), "ann", 400))
    assert 70 < again < 130


def test_what_was_read_again_is_not_offered_a_third_time(
    repeats: Callable[[float], Repeats], readings: list[Reading]
) -> None:
    readings.append(read("old", "ann", 0, REPEAT))
    assert offered(repeats(1.0), "ann") == [None]


def test_a_reader_without_a_name_is_offered_nothing_again(
    repeats: Callable[[float], Repeats],
) -> None:
    assert offered(repeats(1.0), "") == [None]


def test_what_is_offered_again_is_being_read(repeats: Callable[[float], Repeats]) -> None:
    assert repeats(1.0).being_read() == set()
    offered(repeats(1.0), "ann")
    assert repeats(1.0).being_read() == {"old"}
    assert repeats(0.0).being_read() == set()
