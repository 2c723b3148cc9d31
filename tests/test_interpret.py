"""From raw outputs to answers."""

import numpy as np
import pytest

from resmtnet import interpret
from resmtnet.calibration import Calibration
from resmtnet.characteristics import TASKS
from resmtnet.ct.measure import Measurement
from resmtnet.inference import Observation

SIZES = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
)


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(
        class_slope=1.0,
        class_intercept=0.0,
        decision_threshold=0.7,
        mask_threshold=0.4,
        score_quantile=1.5,
        size_quantiles=dict.fromkeys(SIZES, 2.0),
        regressed_quantiles={"equivalent_diameter_mm": 3.0, "long_axis_mm": 3.0},
        ood_limit=2.0,
        baselines={},
        embedding_mean=np.zeros(4),
        embedding_precision=np.eye(4),
    )


def observation(**outputs) -> Observation:
    values = {task.name: np.zeros(task.outputs) for task in TASKS}
    values["equivalent_diameter_mm"] = np.array([np.log(10.0), np.log(0.1)])
    values["long_axis_mm"] = np.array([np.log(12.0), np.log(0.1)])
    values |= {name: np.asarray(value, float) for name, value in outputs.items()}
    return Observation(values, np.zeros((4, 2)), np.zeros(4, np.float32))


def measured(diameter_mm: float) -> Measurement:
    volume = float(np.pi / 6 * diameter_mm**3)
    return Measurement(volume, 12.0, 8.0, (0, 0, 0), ((0, 0, 0), (12, 0, 0)))


@pytest.mark.parametrize(
    ("probability", "doubtful", "name"),
    [
        (0.9, False, "malignant"),
        (0.1, False, "benign"),
        (0.65, False, "indeterminate"),
        (0.35, False, "indeterminate"),
        (0.99, True, "indeterminate"),
    ],
)
def test_class_is_named_only_where_the_evidence_decides(calibration, probability, doubtful, name):
    assert interpret.class_name(probability, calibration, doubtful=doubtful) == name


def test_score_is_the_mean_of_its_distribution_within_its_interval(calibration):
    found = interpret.malignancy(observation(malignancy=[0, 0, 0, 2, 2]), calibration)
    assert sum(found.distribution) == pytest.approx(1)
    assert found.score == pytest.approx(np.dot(found.distribution, range(1, 6)))
    assert 1 <= found.interval_90[0] < found.score < found.interval_90[1] <= 5


def test_measured_size_has_an_interval_around_each_value(calibration):
    size, warnings = interpret.size(observation(), measured(10.0), calibration)
    assert size.equivalent_diameter_mm == pytest.approx(10)
    assert size.mean_diameter_mm == 10
    low, high = size.interval_90["equivalent_diameter_mm"]
    assert (low, high) == pytest.approx((10 * np.exp(-0.2), 10 * np.exp(0.2)))
    low, high = size.interval_90["volume_mm3"]
    assert high / low == pytest.approx(np.exp(2 * 3 * 0.2))
    assert not warnings


def test_disagreement_of_mask_and_regression_is_told(calibration):
    _, warnings = interpret.size(observation(), measured(14.0), calibration)
    assert "14.0 mm" in warnings[0]
    assert "10.0 mm" in warnings[0]


def test_without_a_mask_the_regression_stands_in_and_says_so(calibration):
    size, warnings = interpret.size(observation(), None, calibration)
    assert size.equivalent_diameter_mm == pytest.approx(10)
    assert size.volume_mm3 is None
    assert set(size.interval_90) == {"equivalent_diameter_mm", "long_axis_mm"}
    assert "regressed" in warnings[0]


def test_texture_has_three_classes_and_a_rating(calibration):
    found = interpret.characteristics(observation(texture_class=[3, 0, 0], texture=[9, 0, 0, 0, 0]))
    assert found["texture"].name == "non-solid"
    assert found["texture"].rating == pytest.approx(1, abs=0.01)
    assert set(found["texture"].probabilities) == {"non-solid", "part-solid", "solid"}


def test_nominal_characteristics_have_no_rating(calibration):
    found = interpret.characteristics(observation())
    assert found["calcification"].rating is None
    assert found["spiculation"].rating == 3
    assert "class" not in found
    assert "long_axis_mm" not in found


def test_views_that_disagree_are_uncertain(calibration):
    views = np.array([[0, 6.0], [6, 0.0], [0, 6.0], [6, 0.0]])
    split = interpret.uncertainty(
        Observation(observation().outputs, views, np.zeros(4, np.float32)), calibration
    )
    agreed = interpret.uncertainty(observation(), calibration)
    assert split.mutual_information > 0.6
    assert agreed.mutual_information == pytest.approx(0, abs=1e-9)
    assert agreed.entropy == pytest.approx(np.log(2))
