"""From intervals of corrected axes to intervals of the mask's own axes."""

from dataclasses import replace

import numpy as np
import pytest

from axis_intervals import AXES, uncorrect_axes
from resmtnet.errors import ModelError
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.training.cached_nodule import predict, raw_prediction

FACTORS = {"long_axis_mm": 1.2, "short_axis_mm": 0.9}


@pytest.fixture
def held(bright, small_archive):
    from resmtnet.training.cached_nodule import observe

    nodules = [small_archive.nodules[n] for n in range(12)]
    return [observe(bright, small_archive, nodule) for nodule in nodules]


def with_readers(one, calibration: Calibration, factor: float):
    """The same nodule, whose readers draw a long axis that is `factor` times that of the mask."""
    measured = raw_prediction(one, calibration).measured
    axes = {name: factor * getattr(measured, name) for name in AXES}
    return replace(one, truth={**one.truth, **axes})


def test_intervals_hold_the_readers_around_the_axes_of_the_mask(held):
    interval = LogInterval(0.0, 0.0, 0.0, Bands((), (0.1,)))
    older = Calibration(size_intervals=dict.fromkeys((*AXES, "volume_mm3"), interval))
    rng = np.random.default_rng(0)
    read = [with_readers(one, older, 1.2 * np.exp(rng.uniform(-0.1, 0.1))) for one in held]
    newer = uncorrect_axes(read, older, FACTORS)
    assert newer.size_intervals["volume_mm3"] == interval
    inside = [
        low <= one.truth["long_axis_mm"] <= high
        for one in read
        for low, high in [predict(one, newer).long_axis_interval_mm]
    ]
    before = [
        low <= one.truth["long_axis_mm"] <= high
        for one in read
        for low, high in [predict(one, older).long_axis_interval_mm]
    ]
    assert np.mean(inside) > 0.9 > np.mean(before)


def test_too_few_nodules_are_refused(held):
    interval = LogInterval(0.0, 0.0, 0.0, Bands((), (0.1,)))
    older = Calibration(size_intervals=dict.fromkeys(AXES, interval))
    with pytest.raises(ModelError, match="too few"):
        uncorrect_axes([with_readers(one, older, 1.0) for one in held[:5]], older, FACTORS)
