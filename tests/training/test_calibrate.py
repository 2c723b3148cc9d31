"""Every constant of a calibration, fitted to held nodules."""

from dataclasses import replace

import numpy as np
import pytest

from alike import assert_alike
from resmtnet.characteristics import TASKS
from resmtnet.ct.measure import Measurement
from resmtnet.errors import ModelError
from resmtnet.evaluation.records import Case
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.training.cached_nodule import (
    CachedNodule,
    MeasuredMask,
    predict,
    raw_prediction,
)
from resmtnet.training.calibrate import fit_calibration, refit_calibration

SPREAD = 0.12
"""Of the log diameter that masks and regression miss."""


def measurement(diameter_mm: float) -> Measurement:
    volume = np.pi / 6 * diameter_mm**3
    ends = ((0.0, 0.0, 0.0), (diameter_mm, 0.0, 0.0))
    return Measurement(volume, diameter_mm, 0.8 * diameter_mm, (0.0, 0.0, 0.0), ends)


def nodule(n: int, rng: np.random.Generator) -> CachedNodule:
    """A nodule whose network is too sure; its mask is right at 0.4 below 12 mm, else at 0.5."""
    diameter = float(np.exp(rng.uniform(np.log(4), np.log(30))))
    margin = rng.normal(0, 1.5)
    malignant = rng.random() < 1 / (1 + np.exp(-margin))
    readers = rng.integers(4, 6, 3) if malignant else rng.integers(1, 3, 3)
    outputs = {task.name: rng.normal(0, 1, task.outputs) for task in TASKS}
    outputs["class"] = np.array([0.0, 2 * margin])
    outputs["malignancy"] = -((np.arange(1, 6) - 3 - margin / 2) ** 2)
    for name in ("equivalent_diameter_mm", "long_axis_mm"):
        missed = np.log(diameter) + rng.normal(0, SPREAD)
        outputs[name] = np.array([missed, np.log(SPREAD)])
    best, miss = (0.4 if diameter < 12 else 0.5), np.exp(rng.normal(0, SPREAD))
    masks = {
        t: MeasuredMask(measurement(diameter * miss * np.exp(best - t)), cut=False, dice=0.8)
        for t in LEVELS
    }
    case = Case(
        id=f"N{n}", patient_id=f"P{n}", malignancy=tuple(int(r) for r in readers),
        equivalent_diameter_mm=diameter, long_axis_mm=1.25 * diameter,
        texture_rating=float(rng.choice([1, 3, 5], p=[0.1, 0.1, 0.8])), slice_thickness_mm=1.0,
    )  # fmt: skip
    truth = {
        "volume_mm3": np.pi / 6 * diameter**3,
        "equivalent_diameter_mm": diameter,
        "long_axis_mm": 1.25 * diameter,
        "short_axis_mm": 0.8 * diameter,
        "mean_diameter_mm": 1.025 * diameter,
    }
    views = {name: np.broadcast_to(v, (2, 4, len(v))) for name, v in outputs.items()}
    embeddings = rng.normal(size=(2, 4)).astype(np.float32)
    mask_mean = float(rng.uniform(0.3, 0.9))
    return CachedNodule(case, truth, RawOutputs(views, embeddings), mask_mean, None, (), masks)


def embeddings(held: list[CachedNodule]) -> np.ndarray:
    return np.array([one.observation.embedding for one in held], float)


def with_outputs(one: CachedNodule, change) -> CachedNodule:
    views = {name: change(name, values) for name, values in one.observation.views.items()}
    return replace(one, observation=replace(one.observation, views=views))


@pytest.fixture(scope="module")
def synthetic() -> tuple[list[CachedNodule], list[CachedNodule], Calibration]:
    rng = np.random.default_rng(0)
    held = [nodule(n, rng) for n in range(1200)]
    fitted, rest = held[:600], held[600:]
    return fitted, rest, fit_calibration(fitted, embeddings(fitted), {"nodules": 9})


def test_probability_is_calibrated_on_other_patients(synthetic):
    _, rest, calibration = synthetic
    told = np.array([predict(one, calibration).probability_malignant for one in rest])
    truth = np.array([one.case.malignant for one in rest])
    for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1.01)):
        part = (told >= low) & (told < high)
        assert told[part].mean() == pytest.approx(truth[part].mean(), abs=0.08)


def test_masks_are_cut_without_bias_on_other_patients(synthetic):
    _, rest, calibration = synthetic
    for part in (
        [h for h in rest if (h.case.equivalent_diameter_mm < 12) == low] for low in (0, 1)
    ):
        told = [predict(one, calibration).equivalent_diameter_mm for one in part]
        truth = [one.case.equivalent_diameter_mm for one in part]
        assert np.median(np.divide(told, truth)) == pytest.approx(1, abs=0.03)


def test_axes_are_those_of_the_mask(synthetic):
    _, rest, calibration = synthetic
    for one in rest[:20]:
        measured = raw_prediction(one, calibration).measured
        told = predict(one, calibration)
        assert told.long_axis_mm == pytest.approx(measured.long_axis_mm)
        assert told.short_axis_mm == pytest.approx(measured.short_axis_mm)


def test_intervals_of_the_axes_hold_the_readers_though_the_axes_are_not_corrected(synthetic):
    _, rest, calibration = synthetic
    told = [predict(one, calibration) for one in rest]
    inside = [
        low <= one.truth["long_axis_mm"] <= high
        for one, (low, high) in zip(rest, [p.long_axis_interval_mm for p in told], strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)


def test_intervals_cover_other_patients(synthetic):
    _, rest, calibration = synthetic
    told = [predict(one, calibration) for one in rest]
    size = [
        low <= one.case.equivalent_diameter_mm <= high
        for one, (low, high) in zip(
            rest, [p.equivalent_diameter_interval_mm for p in told], strict=True
        )
    ]
    score = [
        p.score_interval[0] <= one.case.score <= p.score_interval[1]
        for one, p in zip(rest, told, strict=True)
    ]
    assert np.mean(size) == pytest.approx(0.9, abs=0.04)
    assert np.mean(score) == pytest.approx(0.9, abs=0.04)


def test_held_records_of_a_network_become_a_calibration(held):
    calibration = fit_calibration(held, embeddings(held), {"nodules": 20})
    values, arrays = calibration.to_json()
    assert 0.5 <= calibration.decision_threshold <= 0.8
    assert {"margin", "score", "rating.spiculation"} <= set(values["class_slopes"])
    assert set(values["size_intervals"]) >= {"volume_mm3", "long_axis_mm", "short_axis_mm"}
    assert calibration.mask_thresholds.at(8.0) in LEVELS
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert values["baselines"] == {"nodules": 20}
    told = [predict(one, calibration) for one in held]
    assert np.mean([p.out_of_distribution > 1 for p in told]) <= 0.05


def test_network_without_a_decoder_is_calibrated_by_its_regression(held):
    bare = [replace(one, masks={}, mask_mean=1.0) for one in held]
    calibration = fit_calibration(bare, embeddings(bare), {})
    told = predict(bare[0], calibration)
    assert calibration.size_intervals == {}
    assert told.volume_mm3 is None
    assert told.equivalent_diameter_interval_mm is not None
    assert told.mask_dice is None


def test_network_that_draws_no_masks_is_refused(held):
    nothing = MeasuredMask(None, cut=False, dice=0.0)
    silent = [replace(one, masks=dict.fromkeys(LEVELS, nothing)) for one in held]
    with pytest.raises(ModelError, match="train for more epochs"):
        fit_calibration(silent, embeddings(silent), {})


def test_further_nodules_tell_all_but_what_is_familiar(synthetic):
    fitted, rest, _ = synthetic
    few = fitted[:60]
    alone = fit_calibration(few, embeddings(few), {})
    widened = fit_calibration(few, embeddings(few), {}, rest)
    whole = fit_calibration([*few, *rest], embeddings([*few, *rest]), {})
    assert_alike(widened.out_of_distribution.signs, alone.out_of_distribution.signs)
    assert_alike(widened.class_slopes, whole.class_slopes)
    assert_alike(widened.size_intervals, whole.size_intervals)
    assert len(widened.score_widths.edges_mm) > len(alone.score_widths.edges_mm)


def test_layers_that_say_twice_as_much_are_scaled_back(synthetic):
    fitted, _, calibration = synthetic
    louder = [with_outputs(one, lambda name, v: 2 * v if name == "class" else v) for one in fitted]
    moved = refit_calibration(louder, fitted, replace(calibration, class_slopes={"margin": 1.0}))
    assert moved.class_slopes["margin"] == pytest.approx(0.5, rel=0.02)
    assert refit_calibration(fitted, fitted, calibration).class_slopes == pytest.approx(
        calibration.class_slopes
    )
    assert_alike(moved.size_intervals, calibration.size_intervals)


def test_class_is_calibrated_on_well_read_nodules_where_they_suffice(synthetic):
    fitted = synthetic[0]
    alone = fit_calibration(fitted, embeddings(fitted), {})
    wrong = [
        replace(one, case=replace(one.case, malignancy=(1,) if one.case.malignant else (5,)))
        for one in fitted[:200]
    ]
    mixed = fit_calibration([*wrong, *fitted], embeddings([*wrong, *fitted]), {})
    assert mixed.class_slopes == pytest.approx(alone.class_slopes)
    only = [*wrong[:50], *fitted[:30]]
    few = fit_calibration(only, embeddings(only), {})
    assert few.class_slopes["margin"] < alone.class_slopes["margin"] / 4


def test_nodules_of_one_class_or_none_are_refused(held):
    benign = [one for one in held if not one.case.malignant]
    with pytest.raises(ModelError, match="all of one class"):
        fit_calibration(benign, embeddings(benign), {})
    with pytest.raises(ModelError, match="no nodules to calibrate"):
        fit_calibration([], np.zeros((0, 4)), {})
