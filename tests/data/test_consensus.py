"""Readers to targets."""

import numpy as np
import pytest

from resmtnet.data.consensus import class_weight, malignant_share, polygon_coverage


@pytest.mark.parametrize(
    ("ratings", "share", "weight"),
    [
        ((1, 2, 2), 0, 1),
        ((4, 4, 5), 1, 1),
        ((3, 3, 3), 0.5, 0.3),
        ((2, 4), 0.5, 0.3),
        ((5,), 1, 0.5),
    ],
)
def test_class_follows_the_median_and_counts_less_where_readers_are_few(ratings, share, weight):
    assert malignant_share(ratings) == share
    assert class_weight(ratings) == weight


def test_polygon_covers_its_area():
    polygon = np.array([[2.0, 3.0], [10.0, 3.0], [10.0, 9.0], [2.0, 9.0]])
    coverage = polygon_coverage(polygon, (16, 16))
    assert coverage.sum() == pytest.approx(48)
    assert coverage[6, 6] == 1
    assert coverage[6, 2] == pytest.approx(0.5)  # the edge runs through the pixel's centre
    assert coverage[6, 12] == 0


def test_round_polygon_covers_its_area_too():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.stack([12.3 + 6 * np.cos(angle), 9.7 + 6 * np.sin(angle)], 1)
    assert polygon_coverage(circle, (24, 24)).sum() == pytest.approx(np.pi * 36, rel=0.01)


def test_polygon_beyond_the_image_is_cut():
    polygon = np.array([[-5.0, -5.0], [3.5, -5.0], [3.5, 3.5], [-5.0, 3.5]])
    assert polygon_coverage(polygon, (8, 8)).sum() == pytest.approx(16)
    assert polygon_coverage(polygon - 50, (8, 8)).sum() == 0
