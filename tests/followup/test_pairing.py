"""Pairing: one to one, by place, within reach, never across the lungs."""

from __future__ import annotations

import pytest

from resmtnet.followup.pairing import Spot, pair, reach_mm
from resmtnet.inference.candidates.lungs import LEFT, RIGHT


def spot(x: float, mm: float = 8.0, side: int = RIGHT) -> Spot:
    return Spot((x, 0.0, 0.0), mm, side)


def test_each_nodule_gets_the_one_at_its_place() -> None:
    before = [spot(0), spot(40), spot(80)]
    assert sorted(pair(before, [spot(82), spot(1), spot(38)])) == [(0, 1), (1, 2), (2, 0)]


def test_two_nodules_do_not_share_a_partner() -> None:
    assert pair([spot(0), spot(6)], [spot(5)]) == [(1, 0)]


def test_the_total_distance_decides_not_the_nearest_first() -> None:
    assert sorted(pair([spot(0), spot(6)], [spot(5), spot(14)])) == [(0, 0), (1, 1)]


def test_nothing_is_paired_across_the_lungs() -> None:
    assert pair([spot(-4, side=RIGHT)], [spot(4, side=LEFT)]) == []
    assert pair([spot(-4, side=RIGHT)], [spot(4, side=0)]) == [(0, 0)]


def test_what_is_out_of_reach_has_no_partner() -> None:
    far = reach_mm(8.0)
    assert pair([spot(0)], [spot(far - 0.1)]) == [(0, 0)]
    assert pair([spot(0)], [spot(far + 0.1)]) == []


def test_of_two_at_the_same_distance_the_one_of_like_size_is_taken() -> None:
    assert pair([spot(0, 8)], [spot(4, 30), spot(-4, 9)]) == [(0, 1)]


@pytest.mark.parametrize(("before", "now"), [([], []), ([spot(0)], []), ([], [spot(0)])])
def test_nothing_pairs_with_nothing(before: list[Spot], now: list[Spot]) -> None:
    assert pair(before, now) == []
