"""What a site's readers are used to is apart from what a model knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resmtnet import Characterizer, CTVolume
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.mask_threshold import moved_by
from resmtnet.inference.site_habit import LIDC, SiteHabit

HABIT = SiteHabit(score_tilt=0.5, class_shift=1.0, size_shift=0.12, nodules=40, patients=16)


@pytest.fixture(scope="module")
def plain() -> Characterizer:
    return Characterizer.load(device="cpu")


@pytest.fixture(scope="module")
def used_to(plain: Characterizer) -> Characterizer:
    calibration = replace(plain.model.calibration, habit=HABIT)
    return Characterizer(replace(plain.model, calibration=calibration))


@pytest.fixture(scope="module")
def ct(phantom) -> CTVolume:
    grid = phantom.geometry
    return CTVolume.from_array(
        phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction
    )


@pytest.fixture(scope="module")
def answers(plain, used_to, ct, phantom):
    where = [phantom.nodules[0].centre_lps_mm]
    return [m(ct, where, context="screening_baseline")[0] for m in (plain, used_to)]


def test_score_and_class_follow_the_habit(answers):
    usual, told = answers
    assert told.malignancy.score > usual.malignancy.score
    assert told.probability_malignant > usual.probability_malignant


def test_mask_and_numbers_move_together_and_the_category_does_not(answers, ct):
    usual, told = answers
    factor = told.size.equivalent_diameter_mm / usual.size.equivalent_diameter_mm
    assert 1.03 < factor < 1.2
    voxel_mm3 = float(np.prod(ct.geometry.spacing_mm))
    assert told.size.volume_mm3 == pytest.approx(told.mask.sum() * voxel_mm3)
    assert told.guidelines["lung_rads"] == usual.guidelines["lung_rads"]
    note = f"without the habit of this site's readers: {usual.size.mean_diameter_mm:.1f} mm"
    assert any(note in text for text in told.guidelines["assumptions"])


def test_findings_say_whose_readings_they_are_calibrated_to(plain, used_to, ct, answers):
    assert plain.document(ct, answers[:1])["calibrated_to"] == LIDC
    told = used_to.document(ct, answers[1:])["calibrated_to"]
    assert told.startswith("the readers of this site (40 nodules of 16 patients)")


def test_a_habit_is_kept_with_the_calibration():
    calibration = Calibration(habit=HABIT)
    assert Calibration.from_json(*calibration.to_json()).habit == HABIT
    assert "habit" not in calibration.without_habit().to_json()[0]
    assert Calibration.from_json(*Calibration().to_json()).habit.changes_nothing


def test_a_mask_that_cannot_grow_so_far_comes_as_near_as_it_can():
    assert moved_by(3.0, 0.4, lambda level: 10 * (1 - level)) == 0.05
    assert moved_by(1.2, 0.4, lambda level: None) == 0.4
