"""Nodule or not: odds of a click and of a candidate, and what is told below the threshold."""

import numpy as np
import pytest

from resmtnet.inference.calibration import Calibration
from resmtnet.inference.presence import NodulePresence


def outputs(logit: float) -> dict[str, np.ndarray]:
    return {"nodule": np.array([0.0, logit])}


def test_a_click_is_a_nodule_more_often_than_a_candidate_that_looks_the_same():
    presence = NodulePresence(clicked_share=0.9, candidate_share=0.1)
    assert presence.probability(outputs(0.0), candidate=False) == pytest.approx(0.9)
    assert presence.probability(outputs(0.0), candidate=True) == pytest.approx(0.1)


def test_probability_rises_with_the_logit():
    presence = NodulePresence(slope=0.7, intercept=-0.2)
    told = [presence.probability(outputs(x), candidate=False) for x in (-8.0, -1.0, 2.0)]
    assert told == sorted(told)
    assert told[0] < 0.5 < told[2]


def test_a_model_without_the_task_has_no_such_probability():
    assert Calibration().probability_nodule({}, candidate=False) is None
    assert "nodule" not in Calibration().to_json()[0]


def test_calibration_keeps_it():
    values, arrays = Calibration(nodule=NodulePresence(2.0, 0.5, 0.8)).to_json()
    assert Calibration.from_json(values, arrays).nodule == NodulePresence(2.0, 0.5, 0.8)
