from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import fit_baselines
from resmtnet.evaluation.evidence import CROSS_FITTED, of_model, out_of_fold


def cases(answered):
    return [case for case, _ in answered]


@pytest.fixture
def groups(simulate):
    answered = simulate(120)
    return {"a.csv": answered[:40], "b.csv": answered[40:80], "c.csv": answered[80:]}


def test_baselines_of_a_file_are_fitted_on_the_others_alone(groups):
    evidence = out_of_fold(groups)
    others = fit_baselines(cases(groups["a.csv"] + groups["c.csv"]))
    expected = others.predict(cases(groups["b.csv"]))
    found = evidence.baseline.probability_by_size["long_axis_mm"][40:80]
    assert found == pytest.approx(expected.probability_by_size["long_axis_mm"])
    assert evidence.baseline.constant_score[40:80] == pytest.approx(expected.constant_score)
    assert [fit.nodules for fit in evidence.fits] == [80, 80, 80]
    assert evidence.source == CROSS_FITTED


def test_ratings_of_a_file_do_not_touch_its_own_baselines(groups):
    turned = [(replace(c, malignancy=(1, 1, 1, 1)), a) for c, a in groups["a.csv"]]
    before, after = out_of_fold(groups).baseline, out_of_fold({**groups, "a.csv": turned}).baseline
    own, others = slice(0, 40), slice(40, 120)
    for size, probability in before.probability_by_size.items():
        assert after.probability_by_size[size][own] == pytest.approx(probability[own])
        assert not np.isclose(after.probability_by_size[size][others], probability[others]).any()


def test_nodules_keep_their_order_beside_their_baselines(groups):
    evidence = out_of_fold(groups)
    assert [case.id for case, _ in evidence.answered] == [f"n{n}" for n in range(120)]


def test_patient_in_two_files_is_refused_with_both_names(groups):
    case, answer = groups["a.csv"][3]
    groups["c.csv"] = [*groups["c.csv"], (replace(case, id="other"), answer)]
    with pytest.raises(InputError, match=r"patient p1 is in a\.csv and in c\.csv"):
        out_of_fold(groups)


def test_nodule_that_is_there_twice_is_refused(groups):
    groups["a.csv"] = [*groups["a.csv"], groups["a.csv"][0]]
    with pytest.raises(InputError, match=r"n0 is in a\.csv twice"):
        out_of_fold(groups)


def test_file_without_nodules_is_refused(groups):
    with pytest.raises(InputError, match=r"b\.csv holds no nodule"):
        out_of_fold({**groups, "b.csv": []})


def test_one_file_alone_has_no_others_to_fit_on(groups):
    evidence = out_of_fold({"a.csv": groups["a.csv"]})
    assert evidence.baseline is None
    assert evidence.held_out


def test_model_without_baselines_is_compared_with_nothing(simulate):
    assert of_model(simulate(10), None).baseline is None
