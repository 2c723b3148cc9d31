"""From raw outputs to answers."""

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.characteristics import TASKS
from resmtnet.ct.measure import Measurement
from resmtnet.findings import Finding, Size
from resmtnet.inference import postprocessing as interpret
from resmtnet.inference import sizes
from resmtnet.inference.calibration import Calibration, TextureCalibration
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.out_of_distribution import OutOfDistribution, TypicalRange
from resmtnet.inference.point import RawPrediction
from resmtnet.inference.presence import NodulePresence

SIZES = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
)


@pytest.fixture
def calibration() -> Calibration:
    interval = LogInterval(0.0, 1.0, 0.0, Bands((12.0,), (2.0, 4.0)))
    return Calibration(
        decision_threshold=0.7,
        score_widths=Bands((), (1.5,)),
        size_intervals=dict.fromkeys(SIZES[:-1], interval)
        | {"volume_mm3": replace(interval, offset=np.log(3.0))},
        regressed_intervals=dict.fromkeys(("equivalent_diameter_mm", "long_axis_mm"), interval),
        out_of_distribution=OutOfDistribution(
            {"embedding": TypicalRange()}, 2.0, np.zeros(4), np.eye(4)
        ),
    )


def observation(members: int = 1, **outputs) -> RawOutputs:
    """What every member and view says alike, unless an output has those axes itself."""
    values = {task.name: np.zeros(task.outputs) for task in TASKS}
    values["equivalent_diameter_mm"] = np.array([np.log(10.0), np.log(0.1)])
    values["long_axis_mm"] = np.array([np.log(12.0), np.log(0.1)])
    values |= {name: np.asarray(value, float) for name, value in outputs.items()}
    views = {k: np.broadcast_to(v, (members, 4, v.shape[-1])) for k, v in values.items()}
    return RawOutputs(views, np.zeros((members, 4 // members), np.float32))


def seen(
    found: RawOutputs, measured: Measurement | None = None, cut=False, no_nodule=None, notes=()
) -> RawPrediction:
    return RawPrediction(found, 1.0, measured, cut, no_nodule, notes)


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
    found = interpret.malignancy(seen(observation(malignancy=[0, 0, 0, 2, 2])), calibration)
    assert sum(found.distribution) == pytest.approx(1)
    assert found.score == pytest.approx(np.dot(found.distribution, range(1, 6)))
    assert 1 <= found.interval_90[0] < found.score < found.interval_90[1] <= 5


def test_measured_size_has_an_interval_around_each_value(calibration):
    size, warnings = sizes.size(observation(), measured(10.0), calibration)
    assert size.equivalent_diameter_mm == pytest.approx(10)
    assert size.mean_diameter_mm == 10
    low, high = size.interval_90["equivalent_diameter_mm"]
    assert (low, high) == pytest.approx((10 * np.exp(-0.2), 10 * np.exp(0.2)))
    low, high = size.interval_90["volume_mm3"]
    assert high / low == pytest.approx(np.exp(2 * 3 * 0.2))
    assert not warnings


def test_disagreement_of_mask_and_regression_is_told(calibration):
    _, warnings = sizes.size(observation(), measured(14.0), calibration)
    assert "14.0 mm" in warnings[0]
    assert "10.0 mm" in warnings[0]


def test_without_a_mask_the_regression_stands_in_and_says_so(calibration):
    size, warnings = sizes.size(observation(), None, calibration)
    assert size.equivalent_diameter_mm == pytest.approx(10)
    assert size.volume_mm3 is None
    assert set(size.interval_90) == {"equivalent_diameter_mm", "long_axis_mm"}
    assert "regressed" in warnings[0]


def test_interval_is_that_of_the_size_band(calibration):
    narrow, _ = sizes.size(observation(), measured(11.9), calibration)
    wide, _ = sizes.size(observation(), measured(12.1), calibration)
    ratios = [np.ptp(np.log(s.interval_90["equivalent_diameter_mm"])) for s in (narrow, wide)]
    assert ratios == pytest.approx([0.4, 0.8])


def test_interval_widens_where_the_nodule_may_be_subsolid(calibration):
    interval = LogInterval(0.0, 1.0, 1.0, Bands((), (2.0,)))
    wary = replace(calibration, size_intervals={"equivalent_diameter_mm": interval})
    widths = [
        np.ptp(np.log(size.interval_90["equivalent_diameter_mm"]))
        for size, _ in (
            sizes.size(observation(texture_class=logits), measured(10.0), wary)
            for logits in ([0, 0, 50], [50, 0, 0])
        )
    ]
    assert widths == pytest.approx([0.4, 0.4 * np.e])


def test_sizes_are_those_of_the_mask_as_it_is(calibration):
    size, _ = sizes.size(observation(), measured(10.0), calibration)
    mask = measured(10.0)
    for name in SIZES:
        assert getattr(size, name) == pytest.approx(getattr(mask, name))


def test_uncalibrated_answer_has_no_size_interval_and_the_whole_scale_for_the_score():
    said = interpret.to_finding(seen(observation(), measured(10.0)), Calibration(), "N1")
    assert said.size.interval_90 == {}
    assert said.malignancy.interval_90 == (1.0, 5.0)


def test_texture_has_three_classes_and_a_rating(calibration):
    found = interpret.characteristics(
        observation(texture_class=[3, 0, 0], texture=[9, 0, 0, 0, 0]), calibration
    )
    assert found["texture"].name == "non-solid"
    assert found["texture"].rating == pytest.approx(1, abs=0.01)
    assert set(found["texture"].probabilities) == {"non-solid", "part-solid", "solid"}


def test_rare_texture_is_named_where_it_is_more_probable_than_usual(calibration):
    texture = TextureCalibration(shares=(0.1, 0.1, 0.8))
    found = interpret.characteristics(
        observation(texture_class=np.log([0.1, 0.3, 0.6])), replace(calibration, texture=texture)
    )["texture"]
    assert found.name == "part-solid"
    assert found.probabilities["solid"] == pytest.approx(0.6)


def test_nominal_characteristics_have_no_rating(calibration):
    found = interpret.characteristics(observation(), calibration)
    assert found["calcification"].rating is None
    assert found["spiculation"].rating == 3
    assert "class" not in found
    assert "long_axis_mm" not in found


def test_views_of_one_member_that_disagree_are_uncertain(calibration):
    views = np.array([[[0, 6.0], [6, 0.0], [0, 6.0], [6, 0.0]]])
    split = interpret.uncertainty(seen(observation(**{"class": views})), calibration)
    agreed = interpret.uncertainty(seen(observation()), calibration)
    assert split.mutual_information > 0.6
    assert agreed.mutual_information == pytest.approx(0, abs=1e-9)
    assert split.entropy == pytest.approx(np.log(2))
    assert agreed.entropy == pytest.approx(np.log(2))


def test_members_disagree_by_their_means_over_views(calibration):
    views = np.array([[0, 6.0], [6, 0.0], [0, 6.0], [6, 0.0]])
    members = np.repeat(np.array([[[0, 6.0]], [[6, 0.0]]]), 4, 1)
    alike, apart = (
        interpret.uncertainty(seen(observation(2, **{"class": v})), calibration)
        for v in (np.stack([views, views]), members)
    )
    assert alike.mutual_information == pytest.approx(0, abs=1e-9)
    assert apart.mutual_information > 0.6


def told(prediction: RawPrediction, calibration: Calibration) -> Finding:
    """A finding of which somebody asks the guideline category."""
    return interpret.to_finding(prediction, calibration, "N1", context="screening_baseline")


def test_what_is_unlike_the_training_nodules_is_told_and_not_named(calibration):
    far = RawOutputs(observation(**{"class": [0, 9]}).views, np.full((1, 4), 9.0, np.float32))
    near = told(seen(observation(**{"class": [0, 9]}), measured(10.0)), calibration)
    said = told(seen(far, measured(10.0)), calibration)
    assert near.class_name == "malignant"
    assert near.guidelines["lung_rads"] is not None
    assert said.class_name == "indeterminate"
    assert said.guidelines["lung_rads"] is None
    assert "unlike" in said.warnings[-1]


def test_nodule_that_is_cut_is_told_and_gets_no_category(calibration):
    said = told(seen(observation(), measured(10.0), cut=True), calibration)
    assert said.guidelines["lung_rads"] is None
    assert any("larger than the patch" in warning for warning in said.warnings)


def test_candidate_that_nobody_confirmed_gets_no_category(calibration):
    found = interpret.to_finding(
        seen(observation(), measured(10.0)),
        calibration,
        "N1",
        candidate_score=0.4,
        context="screening_baseline",
    )
    assert (found.source, found.candidate_score) == ("candidate", 0.4)
    assert found.guidelines["lung_rads"] is None
    assert "unconfirmed" in found.guidelines["assumptions"][0]


def test_a_clicked_point_that_is_probably_no_nodule_is_told_and_not_named(calibration):
    asked = replace(calibration, nodule=NodulePresence())
    vessel, nodule = observation(**{"class": [0, 9], "nodule": [9, 0]}), observation(nodule=[0, 9])
    said = told(seen(vessel, measured(10.0)), asked)
    assert said.class_name == "indeterminate"
    assert said.nodule_probability < 0.01
    assert interpret.PROBABLY_NOT in said.warnings
    assert said.guidelines["lung_rads"] is None
    other = told(seen(nodule, measured(10.0)), asked)
    assert other.nodule_probability > 0.99
    assert interpret.PROBABLY_NOT not in other.warnings


def test_without_the_task_no_probability_of_a_nodule_is_told(calibration):
    assert told(seen(observation(), measured(10.0)), calibration).nodule_probability is None


def test_no_size_is_told_where_nothing_can_be_a_nodule(calibration):
    said = told(seen(observation(), no_nodule="only air", notes=("thick",)), calibration)
    assert said.size == Size()
    assert said.warnings[:2] == ("thick", "only air")


def test_finding_is_at_its_place_and_has_the_ends_of_its_axes(calibration):
    mask = measured(10.0)
    prediction = seen(observation(), mask)
    found = interpret.to_finding(prediction, calibration, "N7", centre_lps_mm=(1.0, 2.0, 3.0))
    assert (found.id, found.centre_lps_mm) == ("N7", (1.0, 2.0, 3.0))
    assert found.long_axis_lps_mm == mask.long_axis_ends_lps_mm
    assert found.guidelines["lung_rads"] is None
    assert interpret.to_finding(seen(observation()), calibration, "N1").long_axis_lps_mm is None
