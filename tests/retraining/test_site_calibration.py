"""What a site's readers add to the calibration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.readings.record import Answered
from resmtnet.retraining import site_calibration
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.site_calibration import (
    class_shift,
    habit_of,
    habits_apart,
    malignancy_tilt,
    small_sample_factor,
)


@pytest.fixture
def malignant_only(world, rightly):
    def rule(one):
        return [replace(r, malignancy=5) for r in rightly(one)]

    return world.samples(rule)


def test_readers_of_one_class_do_not_say_where_it_begins(world, malignant_only):
    held = [s.held for s in malignant_only]
    assert class_shift(world.model.calibration, malignant_only, held, doubt=1.5) == 0


def test_severe_readers_of_both_classes_shift_it(world, rightly):
    samples = world.samples(
        lambda one: [replace(r, malignancy=5) if r.malignancy > 1 else r for r in rightly(one)]
    )
    assert class_shift(world.model.calibration, samples, [s.held for s in samples], doubt=1.5) > 0


def the_habit(world, samples, doubt=1.5):
    heads = LinearHeads.of(world.model.networks)
    return habit_of(world.model.calibration, samples, heads, doubt)


def patients_of(world, rule, count):
    """Samples of the first patients of the site."""
    names = list(dict.fromkeys(s.patient_id for s in world.samples()))[:count]
    return [s for s in world.samples(rule) if s.patient_id in names]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_patients_show_no_habit_at_all(world, say, count):
    """One nodule of one patient used to give a tilt of several logits, believed fully."""

    def extreme(one):
        sizes = {"long_axis_mm": 60.0, "volume_mm3": 9000.0}
        rating = 5 if one.case.score < 3 else 1
        return [say(one, "A", malignancy=rating, sizes=sizes)]

    samples = patients_of(world, extreme, count)
    for chosen in (samples, samples[:1]):
        assert the_habit(world, chosen).changes_nothing


def test_a_handful_of_patients_is_believed_less_than_their_plain_standard_error_says(
    world, rightly, monkeypatch
):
    def severe(one):
        return [replace(r, malignancy=min(5, r.malignancy + 1)) for r in rightly(one)]

    samples = patients_of(world, severe, 5)
    held, patients = [s.held for s in samples], [s.patient_id for s in samples]

    def tilt() -> float:
        return malignancy_tilt(world.model.calibration, held, patients, doubt=1.0)

    corrected = tilt()
    monkeypatch.setattr(site_calibration, "small_sample_factor", lambda count: 1.0)
    assert 0 < corrected < tilt()


def test_a_habit_of_many_patients_is_learnt_nearly_whole(world, rightly):
    def oversized(one):
        sizes = [
            {k: v * 1.2 ** (3 if k.endswith("mm3") else 1) for k, v in r.sizes.items()}
            for r in rightly(one)
        ]
        return [replace(r, sizes=s) for r, s in zip(rightly(one), sizes, strict=True)]

    habit, usual = (the_habit(world, world.samples(rule)) for rule in (oversized, rightly))
    assert habit.size_shift - usual.size_shift == pytest.approx(math.log(1.2), abs=0.05)


def answered(one, *, seen):
    return Answered("1", "", {}, seen=seen)


def test_habits_of_readers_who_saw_the_answer_are_told_apart(world, rightly):
    """They lean towards it: half of the readers are severe, and only those who saw nothing."""
    patients = list(dict.fromkeys(one.case.patient_id for one in world.site))
    blind = set(patients[::2])

    def rule(one):
        alone = one.case.patient_id in blind
        more = 1 if alone else 0
        return [
            replace(
                r, malignancy=min(5, r.malignancy + more), answered=answered(one, seen=not alone)
            )
            for r in rightly(one)
        ]

    samples = world.samples(rule)
    apart = habits_apart(world.model.calibration, samples, LinearHeads.of(world.model.networks))
    assert apart["not seen"].score_tilt > apart["seen"].score_tilt + 0.2
    assert apart["not seen"].patients == len(blind)
    # what is learnt is the habit of those who saw nothing, as long as they are enough
    learnt = the_habit(world, samples, doubt=0.0)
    assert learnt.score_tilt == pytest.approx(apart["not seen"].score_tilt)


def test_too_few_readers_who_saw_nothing_do_not_decide(world, rightly):
    patients = list(dict.fromkeys(one.case.patient_id for one in world.site))
    blind = set(patients[: site_calibration.LEAST_BLINDED - 1])

    def rule(one):
        seen = one.case.patient_id not in blind
        return [replace(r, answered=answered(one, seen=seen)) for r in rightly(one)]

    assert the_habit(world, world.samples(rule), doubt=0.0).patients == len(patients)


def test_the_standard_error_of_few_patients_is_widened():
    factors = [small_sample_factor(n) for n in (2, 5, 20, 1000)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1.0, abs=0.01)
    assert all(math.isfinite(f) and f > 1 for f in factors)
    assert np.diff(factors).max() < 0
