"""Masks of jittered clicks: where the clicks fall, and how their overlap is measured."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from resmtnet.ct.volume import CTVolume
from resmtnet.evaluation.clicks import click_dice, dice_of_masks, jittered
from resmtnet.findings import Finding, Malignancy, Size, Uncertainty
from resmtnet.types import Point


def finding(start: int, mask: bool = True, centre: Point = (0.0, 0.0, 0.0)) -> Finding:
    return Finding(
        id="N1",
        source="point",
        centre_lps_mm=centre,
        centre_ijk=centre,
        class_name="benign",
        probability_malignant=0.1,
        malignancy=Malignancy(2.0, (1.0, 3.0), (0.2,) * 5),
        size=Size(),
        characteristics={},
        uncertainty=Uncertainty(0.0, 0.0, 0.0),
        guidelines={},
        mask=np.ones((2, 2, 4), np.uint8) if mask else None,
        start_ijk=(start, 0, 0) if mask else None,
    )


class Shifting:
    """Draws a mask as far along i as the click lies along x."""

    def __init__(self) -> None:
        self.asked: list[Point] = []

    @property
    def info(self) -> Any:
        raise NotImplementedError

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Point], *, context: str | None = None
    ) -> list[Finding]:
        self.asked += centres_mm
        return [finding(2 if x > 0 else 0, centre=(x, y, z)) for x, y, z in centres_mm]


CT = CTVolume.from_array(np.zeros((4, 4, 4), np.int16), (1, 1, 1), image_id="one")


def test_clicks_stay_within_a_quarter_of_the_diameter_and_differ() -> None:
    clicks = jittered((5.0, 0.0, -3.0), 12.0, 200, 0)
    away = [math.dist(click, (5.0, 0.0, -3.0)) for click in clicks]
    assert 2.5 < max(away) <= 3.0
    assert len(set(clicks)) == 200
    assert jittered((5.0, 0.0, -3.0), 12.0, 200, 1) != clicks


def test_overlap_of_two_masks() -> None:
    assert dice_of_masks(finding(0), finding(0)) == 1.0
    assert dice_of_masks(finding(0), finding(2)) == pytest.approx(0.5)
    assert dice_of_masks(finding(0), finding(9)) == 0.0
    assert dice_of_masks(finding(0), finding(0, mask=False)) == 0.0


def test_click_dice_is_the_mean_of_all_pairs() -> None:
    model = Shifting()
    told = click_dice(model, CT, finding(0), 8.0, 3)
    masks = [0, *(2 if x > 0 else 0 for x, _, _ in model.asked)]
    pairs = [a == b for n, a in enumerate(masks) for b in masks[n + 1 :]]
    assert told == pytest.approx(np.mean([1.0 if same else 0.5 for same in pairs]))
    assert len(model.asked) == 3


def test_without_further_clicks_there_is_no_figure() -> None:
    assert click_dice(Shifting(), CT, finding(0), 8.0, 0) is None
