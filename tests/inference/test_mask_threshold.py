"""The level at which a mask is cut: between what the mask and what the regression say."""

from __future__ import annotations

import pytest

from resmtnet.inference.mask_threshold import LEVELS, settle, usual_level


def shrinking(level: float) -> float:
    return 12 * (1 - level)


def test_mask_that_agrees_is_cut_at_the_usual_level():
    assert settle(shrinking, 0.3, shrinking(0.3), 0.2) == 0.3


@pytest.mark.parametrize(("regressed_mm", "sign"), [(12.0, -1), (4.0, 1)])
def test_level_goes_towards_the_regressed_size(regressed_mm, sign):
    level = settle(shrinking, 0.3, regressed_mm, 0.2)
    assert sign * (level - 0.3) > 0


def test_sure_regression_moves_the_level_further():
    assert settle(shrinking, 0.3, 11.0, 0.05) < settle(shrinking, 0.3, 11.0, 0.5)


def test_faint_nodule_without_a_mask_at_the_usual_level_gets_one():
    level = settle(lambda level: 5.0 if level < 0.12 else None, 0.3, 6.0, 0.2)
    assert level == 0.1


def test_without_a_mask_at_any_level_the_usual_one_is_returned():
    assert settle(lambda level: None, 0.3, 6.0, 0.2) == 0.3


def test_usual_level_falls_with_the_probability_of_a_subsolid_nodule():
    levels = [usual_level(0.3, subsolid) for subsolid in (0.0, 0.5, 1.0)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.3)
    assert min(levels) > min(LEVELS)


def test_step_of_the_mask_does_not_end_the_search():
    def stepwise(level: float) -> float:
        return 4.0 if level < 0.15 else 2.0

    assert settle(stepwise, 0.3, 4.2, 0.2) == 0.125


def test_no_level_is_asked_for_that_could_not_be_better():
    asked = []

    def near(level: float) -> float:
        asked.append(level)
        return 8.1 if level > 0.29 else 8.0

    assert settle(near, 0.3, 8.05, 0.2) == 0.3
    assert len(asked) <= 2


def test_a_mass_larger_than_the_regression_sees_is_cut_at_its_usual_level():
    def mass(level: float) -> float:
        return 55.0 - 10 * level if level < 0.65 else 31.0

    assert settle(mass, 0.45, 17.0, 0.4) == 0.45


def test_a_mask_far_from_the_regressed_size_is_none_of_the_nodule():
    def surroundings(level: float) -> float | None:
        return 57.0 if level < 0.16 else None

    assert surroundings(settle(surroundings, 0.35, 13.5, 0.3)) is None
    assert surroundings(settle(surroundings, 0.35, 45.0, 0.3)) is not None


def test_a_mask_that_leaks_into_the_wall_is_cut_back():
    def leaking(level: float) -> float:
        return 45.0 if level < 0.55 else 11.0

    assert leaking(settle(leaking, 0.45, 10.5, 0.12)) == 11.0

    def doubled(level: float) -> float:
        return 16.0 if level < 0.68 else 12.2

    assert doubled(settle(doubled, 0.45, 8.0, 0.1)) == 12.2
