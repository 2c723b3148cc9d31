import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation.baselines import Baselines, fit_baselines
from resmtnet.evaluation.metrics import auc, mean_absolute_error
from resmtnet.evaluation.records import Case


def test_size_only_knows_nothing_but_the_size(simulate, baselines):
    cases = [case for case, _ in simulate(30)]
    stripped = [Case("x", "y", (), c.equivalent_diameter_mm, 1.0, None, 5.0) for c in cases]
    full, blind = baselines.predict(cases), baselines.predict(stripped)
    assert (full.size_only_probability == blind.size_only_probability).all()
    assert (full.size_only_score == blind.size_only_score).all()


def test_size_only_grows_with_the_size_and_its_score_stays_on_the_scale(baselines):
    case = Case("x", "y", (), 1.0, 1.0, None, 1.0)
    cases = [replace(case, equivalent_diameter_mm=mm) for mm in (0.01, 5.0, 10.0, 1e4)]
    answers = baselines.predict(cases)
    assert (np.diff(answers.size_only_probability) > 0).all()
    assert (np.diff(answers.size_only_score) > 0).all()
    assert answers.size_only_score[0] == 1
    assert answers.size_only_score[-1] == 5


def test_constants_are_those_of_the_fitted_nodules(simulate):
    cases = [case for case, _ in simulate(100)]
    fitted = fit_baselines(cases)
    rated = [case for case in cases if len(case.malignancy) >= 3]
    assert fitted.mean_score == pytest.approx(np.mean([np.mean(c.malignancy) for c in rated]))
    assert fitted.median_diameter_mm == np.median([c.equivalent_diameter_mm for c in cases])
    assert fitted.nodules == 100
    assert fitted.protocol_nodules == sum(case.in_protocol for case in cases)


def test_baselines_survive_json(baselines):
    assert Baselines.from_json(json.loads(json.dumps(baselines.to_json()))) == baselines


def test_baselines_of_another_version_are_refused(baselines):
    values = baselines.to_json()
    del values["mean_score"]
    with pytest.raises(ModelError, match="mean_score"):
        Baselines.from_json({**values})


def test_nodules_of_one_class_cannot_be_fitted(simulate):
    benign = [case for case, _ in simulate(60) if not case.malignant]
    with pytest.raises(InputError, match="0 malignant"):
        fit_baselines(benign)


@pytest.mark.real_data
def test_baselines_on_lidc_are_those_published():
    default = Path(__file__).parents[3] / "shared" / "data"
    table = Path(os.environ.get("RESMTNET_DATA", default)) / "lidc" / "nodules.csv"
    if not table.is_file():
        pytest.skip(f"no LIDC data at {table}; set RESMTNET_DATA")
    with table.open(newline="") as file:
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
    assert len(protocol) == 719
    assert auc(malignant, fitted.predict(protocol).size_only_probability) == pytest.approx(
        0.919, abs=0.001
    )
    assert mean_absolute_error(score, answers.constant_score) == pytest.approx(0.711, abs=0.003)
    assert mean_absolute_error(score, answers.size_only_score) == pytest.approx(0.557, abs=0.004)
