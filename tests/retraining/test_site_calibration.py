"""What a site's readers add to the calibration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resmtnet.retraining.site_calibration import class_shift


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
