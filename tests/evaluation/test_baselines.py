import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation.baselines import Baselines, fit_baselines, joined
from resmtnet.evaluation.metrics import auc, mean_absolute_error
from resmtnet.evaluation.records import Case

BY_DIAMETER = "equivalent_diameter_mm"


def test_size_only_knows_nothing_but_the_size(simulate, baselines):
    cases = [case for case, _ in simulate(30)]
    stripped = [Case("x", "y", (), c.equivalent_diameter_mm, 1.0, None, 5.0) for c in cases]
    full, blind = baselines.predict(cases), baselines.predict(stripped)
    for name in ("probability_by_size", "score_by_size"):
        assert getattr(full, name)[BY_DIAMETER] == pytest.approx(getattr(blind, name)[BY_DIAMETER])


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ("equivalent_diameter_mm", {"equivalent_diameter_mm": 30.0}),
        ("long_axis_mm", {"long_axis_mm": 30.0}),
        ("mean_axis_mm", {"reader_short_axes_mm": (30.0,) * 4}),
    ],
)
def test_each_size_only_baseline_looks_at_its_own_size(simulate, baselines, size, changes):
    case, _ = next(pair for pair in simulate() if pair[0].equivalent_diameter_mm < 8)
    before, after = baselines.predict([case]), baselines.predict([replace(case, **changes)])
    for name in ("probability_by_size", "score_by_size"):
        changed = {
            key: getattr(after, name)[key] > values for key, values in getattr(before, name).items()
        }
        assert {key for key, larger in changed.items() if larger.all()} == {size}


def test_sizes_that_no_reader_gave_are_not_guessed_from(simulate):
    cases = [replace(case, reader_short_axes_mm=()) for case, _ in simulate(100)]
    fitted = fit_baselines(cases)
    assert fitted.class_by_mean_axis is None
    assert fitted.median_short_axis_mm is None
    answer = fitted.predict(cases)
    assert np.isnan(answer.probability_by_size["mean_axis_mm"]).all()
    assert np.isfinite(answer.probability_by_size["long_axis_mm"]).all()


def test_size_only_grows_with_the_size_and_its_score_stays_on_the_scale(baselines):
    case = Case("x", "y", (), 1.0, 1.0, None, 1.0)
    cases = [replace(case, equivalent_diameter_mm=mm) for mm in (0.01, 5.0, 10.0, 1e4)]
    answers = baselines.predict(cases)
    assert (np.diff(answers.probability_by_size[BY_DIAMETER]) > 0).all()
    score = answers.score_by_size[BY_DIAMETER]
    assert (np.diff(score) > 0).all()
    assert (score[0], score[-1]) == (1, 5)


def test_constants_are_those_of_the_fitted_nodules(simulate):
    cases = [case for case, _ in simulate(100)]
    fitted = fit_baselines(cases)
    rated = [case for case in cases if len(case.malignancy) >= 3]
    assert fitted.mean_score == pytest.approx(np.mean([np.mean(c.malignancy) for c in rated]))
    diameters = [c.equivalent_diameter_mm for c in cases]
    assert fitted.median_diameter_mm == pytest.approx(np.median(diameters))
    assert fitted.nodules == 100
    assert fitted.protocol_nodules == sum(case.in_protocol for case in cases)


def test_baselines_survive_json(baselines):
    assert Baselines.from_json(json.loads(json.dumps(baselines.to_json()))) == baselines


def test_baselines_of_another_version_are_refused(baselines):
    values = baselines.to_json()
    del values["mean_score"]
    with pytest.raises(ModelError, match="mean_score"):
        Baselines.from_json(values)
    with pytest.raises(ModelError, match="colour"):
        Baselines.from_json({**baselines.to_json(), "colour": 1})


def test_baselines_of_an_older_model_know_the_equivalent_diameter_alone(baselines):
    old = {k: v for k, v in baselines.to_json().items() if "_by_" not in k}
    read = Baselines.from_json(old)
    assert read.class_slope == baselines.class_slope
    assert read.class_by_long_axis is None


def test_joined_answers_keep_the_order_of_the_nodules(simulate, baselines):
    cases = [case for case, _ in simulate(30)]
    whole = baselines.predict(cases)
    parts = joined([baselines.predict(cases[:7]), baselines.predict(cases[7:])])
    assert parts.majority_texture == whole.majority_texture
    for name, key in (("constant_mm", BY_DIAMETER), ("score_by_size", "long_axis_mm")):
        assert getattr(parts, name)[key] == pytest.approx(getattr(whole, name)[key])


def test_nodules_of_one_class_cannot_be_fitted(simulate):
    benign = [case for case, _ in simulate(60) if not case.malignant]
    with pytest.raises(InputError, match="0 malignant"):
        fit_baselines(benign)


@pytest.mark.real_data
def test_baselines_on_lidc_are_those_published(real_data):
    with (real_data / "lidc" / "nodules.csv").open(newline="") as file:
        cases = [
            Case(
                id=row["nodule"],
                patient_id=row["patient_id"],
                malignancy=tuple(int(part) for part in row["malignancy_all"].split()),
                equivalent_diameter_mm=(6 * float(row["volume_contour_mm3"]) / np.pi) ** (1 / 3),
                long_axis_mm=float(row["diameter_max_mm"]),
                texture_rating=float(row["texture_mean"]),
                slice_thickness_mm=float(row["slice_thickness"]),
            )
            for row in csv.DictReader(file)
        ]
    fitted = fit_baselines(cases)
    protocol = [case for case in cases if case.in_protocol]
    rated = [case for case in cases if case.enough_readers]
    malignant = [case.malignant for case in protocol]
    answers, score = fitted.predict(rated), [case.score for case in rated]
    by_long_axis = fitted.predict(protocol).probability_by_size["long_axis_mm"]
    assert len(protocol) == 719
    assert auc(malignant, by_long_axis) == pytest.approx(0.932, abs=0.001)
    assert auc(
        malignant, fitted.predict(protocol).probability_by_size[BY_DIAMETER]
    ) == pytest.approx(0.919, abs=0.001)
    assert mean_absolute_error(score, answers.constant_score) == pytest.approx(0.711, abs=0.003)
    assert mean_absolute_error(score, answers.score_by_size[BY_DIAMETER]) == pytest.approx(
        0.557, abs=0.004
    )
