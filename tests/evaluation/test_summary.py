import json
import math
from dataclasses import replace

import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.figures import FIGURES
from resmtnet.evaluation.summary import summarise, worst_cases

CONFIG = BootstrapConfig(resamples=60)


def figures(answered, info, baselines=None, config=CONFIG):
    return summarise(answered, info, baselines, config=config)["figures"]


def every_number(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in every_number(entry)]
    return [value] if isinstance(value, float) else []


def test_names_of_figures_are_unique():
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)


def test_figures_stand_beside_their_baselines(simulate, info, baselines):
    row = figures(simulate(), info, baselines)["auc"]
    assert row["model"]["low"] <= row["model"]["value"] <= row["model"]["high"]
    assert 0.5 < row["size_only"]["value"] < row["model"]["value"]
    assert row["constant"]["value"] == 0.5
    gain = row["model"]["value"] - row["size_only"]["value"]
    assert row["model_minus_size_only"]["value"] == pytest.approx(gain, abs=1e-3)


def test_only_protocol_nodules_count_for_the_class(simulate, info):
    answered = simulate()
    found = figures(answered, info)
    assert found["auc"]["n"] == sum(case.in_protocol for case, _ in answered)
    assert found["score_mae"]["n"] == found["diameter_mae_mm"]["n"] == len(answered)
    assert found["score_mae_3_readers"]["n"] == sum(len(c.malignancy) >= 3 for c, _ in answered)


def test_nodules_of_median_3_are_shown_apart(simulate, info):
    answered = simulate()
    middle = [(replace(case, malignancy=(3, 3, 3)), answer) for case, answer in answered[:7]]
    found = figures(middle + answered[7:], info)
    assert found["probability_median_3"]["n"] >= 7
    assert found["score_mae_median_3"]["n"] == found["probability_median_3"]["n"]


def test_size_figures_of_a_known_error_are_known(simulate, info):
    found = figures(simulate(error_mm=0.5), info)
    for name in ("diameter_mae_mm", "diameter_bias_mm", "diameter_loa_low_mm"):
        assert found[name]["model"]["value"] == pytest.approx(0.5)
    assert found["long_axis_bias_mm"]["model"]["value"] == pytest.approx(0.65)
    assert found["diameter_coverage_90"]["model"]["value"] == 1
    assert found["diameter_interval_width_mm"]["model"]["value"] == pytest.approx(2)
    assert figures(simulate(error_mm=1.5), info)["diameter_coverage_90"]["model"]["value"] == 0


def test_bands_are_by_the_readers_size(simulate, info):
    answered = simulate()
    found = figures(answered, info)
    inside = [c for c, _ in answered if 6 <= c.equivalent_diameter_mm < 10]
    assert found["diameter_mae_6_10_mm"]["n"] == len(inside)
    assert found["auc_6_10_mm"]["n"] == sum(case.in_protocol for case in inside)


def test_nodules_without_an_answer_are_counted_as_missing(simulate, info):
    answered = simulate()
    case, answer = answered[0]
    answered[0] = (case, replace(answer, equivalent_diameter_mm=None, volume_mm3=math.nan))
    found = figures(answered, info)
    assert (found["diameter_mae_mm"]["n"], found["diameter_mae_mm"]["missing"]) == (79, 1)
    assert found["volume_median_relative_error"]["missing"] == 1


def test_majority_texture_is_as_good_as_chance(simulate, info, baselines):
    row = figures(simulate(), info, baselines)["texture_balanced_accuracy"]
    assert row["model"]["value"] == 1
    assert row["constant"]["value"] == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_nodules_give_null_and_never_nan(simulate, info, baselines, count):
    benign = [pair for pair in simulate() if pair[0].in_protocol and not pair[0].malignant][:count]
    document = summarise(benign, info, baselines, config=CONFIG)
    json.dumps(document, allow_nan=False)
    assert all(math.isfinite(number) for number in every_number(document))
    row = document["figures"]["auc"]
    assert row["n"] == count
    assert row["model"] == {"value": None, "low": None, "high": None}


def test_population_without_nodules_is_null_with_n_0(simulate, info):
    unrated = [(replace(case, malignancy=()), answer) for case, answer in simulate(12)]
    found = figures(unrated, info)
    assert found["score_mae"]["n"] == found["auc"]["n"] == 0
    assert found["score_mae"]["model"]["value"] is None
    assert found["diameter_mae_mm"]["n"] == 12


def test_without_baselines_their_columns_are_null_and_a_warning_says_so(simulate, info):
    document = summarise(simulate(20), info, None, config=CONFIG)
    assert document["figures"]["auc"]["size_only"] is None
    assert document["figures"]["auc"]["model_minus_size_only"] is None
    assert "no baselines" in document["warnings"][0]


def test_synthesised_context_and_training_nodules_are_told(simulate, info, baselines):
    answered = [(replace(c, context="none", split="train"), a) for c, a in simulate(20)]
    document = summarise(answered, info, baselines, config=CONFIG)
    assert "synthesised context: 20 of 20" in document["warnings"][0]
    assert "split train" in document["warnings"][1]
    assert document["data"]["context"] == {"none": 20}


def test_bootstrap_settings_and_provenance_are_kept_and_used(simulate, info):
    answered = simulate(40)
    document = summarise(answered, info, None, {"licence": "CC0"}, CONFIG)
    assert document["bootstrap"]["resamples"] == 60
    assert document["data"]["provenance"] == {"licence": "CC0"}
    assert figures(answered, info, config=BootstrapConfig(resamples=60, seed=3)) != figures(
        answered, info
    )


def test_worst_cases_come_first(simulate):
    answered = simulate()
    case, answer = answered[5]
    answered[5] = (case, replace(answer, equivalent_diameter_mm=99.0))
    worst = worst_cases(answered, count=3)
    assert [len(rows) for rows in worst.values()] == [3, 3, 3]
    assert worst["diameter"][0]["id"] == "n5"
    errors = [abs(row["error"]) for row in worst["class"]]
    assert errors == sorted(errors, reverse=True)


def test_nothing_to_evaluate_is_an_error(info):
    with pytest.raises(InputError, match="no nodule"):
        summarise([], info, None)
