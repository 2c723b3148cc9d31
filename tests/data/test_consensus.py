"""Readers to targets."""

import numpy as np
import pytest

from resmtnet.characteristics import LIDC_RATINGS, MALIGNANCY, TASKS
from resmtnet.data.consensus import (
    at_least_half,
    class_weight,
    distribution,
    in_scale,
    malignant_share,
    mean,
    mean_pairwise_dice,
    mean_share,
    median,
    most_frequent,
    polygon_coverage,
    ratings_in_scale,
    shares,
    trusted_ratings,
)
from resmtnet.errors import InputError

BY_NAME = {task.name: task for task in TASKS}
NOMINAL = ("calcification", "internal_structure")


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


@pytest.mark.parametrize("task", LIDC_RATINGS, ids=lambda task: task.name)
def test_a_rating_outside_its_scale_is_missing(task):
    top = {"calcification": 6, "internal_structure": 4}.get(task.name, 5)
    assert in_scale(task, [0, 1, top, top + 1, None]) == (0, 1, top, 0, 0)


def test_readers_keep_their_places_when_a_rating_is_left_out():
    read = ratings_in_scale({"internal_structure": [1, 5, 1], "malignancy": [4, 3, 2]})
    assert read == {"internal_structure": (1, 0, 1), "malignancy": (4, 3, 2)}


@pytest.mark.parametrize("name", NOMINAL)
@pytest.mark.parametrize("rule", [median, mean])
def test_a_nominal_rating_is_never_averaged(name, rule):
    with pytest.raises(InputError, match=f"{name} is nominal"):
        rule(BY_NAME[name], [1, 3, 3])


def test_a_nominal_rating_has_shares_and_a_most_frequent_level():
    task = BY_NAME["calcification"]
    assert shares(task, [6, 6, 3, 0]).tolist() == pytest.approx([0, 0, 1 / 3, 0, 0, 2 / 3])
    assert most_frequent(task, [6, 3, 6]) == "absent"


def test_lobulation_and_spiculation_of_the_initial_release_are_left_out():
    ratings = {task.name: (1, 2, 3) for task in LIDC_RATINGS}
    for unsafe in (True, None):
        trusted = trusted_ratings(ratings, initial_release=unsafe)
        dropped = {name for name, given in trusted.items() if given == (0, 0, 0)}
        assert dropped == {"lobulation", "spiculation"}
    assert trusted_ratings(ratings, initial_release=False) == ratings


@pytest.mark.parametrize(("rule", "value"), [(median, 4), (mean, 11 / 3)])
def test_consensus_of_enough_readers_is_a_number_and_of_fewer_none(rule, value):
    assert rule(MALIGNANCY, (5, 4, 2), 3) == pytest.approx(value)
    assert rule(MALIGNANCY, (5, 4, 2, 0), 3) == pytest.approx(value)
    assert rule(MALIGNANCY, (5, 4, 2), 4) is None
    assert rule(MALIGNANCY, (0, 0)) is None


def test_distribution_needs_as_many_readers_as_asked_for():
    assert shares(MALIGNANCY, (5, 4), 3) is None
    assert shares(MALIGNANCY, (5, 4), 2).tolist() == [0, 0, 0, 0.5, 0.5]
    assert distribution((5, 0, 5), 5).tolist() == [0, 0, 0, 0, 1]
    with pytest.raises(InputError, match="none of 1 to 5"):
        distribution((0, 6), 5)


def test_mask_consensus_is_the_mean_share_and_its_half():
    masks = [np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.5, 1.0, 0.0])]
    share = mean_share(masks)
    assert share.tolist() == [1, 0.75, 0.5, 0]
    assert at_least_half(share).tolist() == [True, True, True, False]


def test_dice_is_the_mean_over_pairs_of_readers_who_marked_something():
    square, shifted, nothing = np.zeros((3, 4, 4))
    square[:, :2] = 1
    shifted[:, 1:3] = 1
    assert mean_pairwise_dice([square, shifted]) == 0.5
    assert mean_pairwise_dice([square, square, shifted]) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert mean_pairwise_dice([square, shifted, nothing]) == 0.5
    assert mean_pairwise_dice([square, nothing]) is None


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


def test_a_polygon_with_a_dent_leaves_the_dent_out():
    dented = np.array([[2.0, 2.0], [12.0, 2.0], [12.0, 12.0], [7.0, 5.0], [2.0, 12.0]])
    coverage = polygon_coverage(dented, (16, 16))
    assert coverage.sum() == pytest.approx(65, rel=0.01)
    assert coverage[10, 7] == 0
    assert coverage[4, 7] == 1


def test_polygon_beyond_the_image_is_cut():
    polygon = np.array([[-5.0, -5.0], [3.5, -5.0], [3.5, 3.5], [-5.0, 3.5]])
    assert polygon_coverage(polygon, (8, 8)).sum() == pytest.approx(16)
    assert polygon_coverage(polygon - 50, (8, 8)).sum() == 0
