import json
import math
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.evidence import of_model, out_of_fold
from resmtnet.evaluation.figures import FIGURES, GROUPS, all_figures
from resmtnet.evaluation.summary import summarise
from resmtnet.evaluation.worst import worst_cases, worst_ids

CONFIG = BootstrapConfig(resamples=40)


def document(answered, info=None, baselines=None, provenance=None, config=CONFIG):
    return summarise(of_model(answered, baselines), info, provenance, config)


def figures(answered, info=None, baselines=None, config=CONFIG):
    return all_figures(document(answered, info, baselines, config=config))


def every_number(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in every_number(entry)]
    return [value] if isinstance(value, float) else []


def test_names_of_figures_are_unique_and_their_groups_have_titles():
    names = [figure.name for figure in FIGURES]
    assert len(set(names)) == len(names)
    assert {figure.group for figure in FIGURES} == set(GROUPS)


def test_headlines_are_of_all_nodules_and_what_is_of_a_part_is_a_detail(simulate, info):
    made = document(simulate(), info)
    assert 35 <= len(made["figures"]) <= 45
    assert {row["stratum"] for row in made["figures"].values()} == {None}
    assert None not in {row["stratum"] for row in made["details"].values()}
    asked = [figure.name for figure in FIGURES if not figure.optional]
    assert list(all_figures(made)) == asked
    assert len(made["figures"]) + len(made["details"]) == len(asked)


def test_masks_of_several_clicks_are_told_by_slice_thickness_where_they_were_asked_for(
    simulate, info
):
    answered = [(case, replace(answer, click_dice=0.9)) for case, answer in simulate()]
    made = document(answered, info)
    assert made["figures"]["click_dice"]["model"]["value"] == pytest.approx(0.9)
    assert "click_dice_slices_0_1p5_mm" in made["details"]
    assert "click_dice_6_10_mm" in made["details"]


def test_figures_stand_beside_their_baselines(simulate, info, baselines):
    found = figures(simulate(), info, baselines)
    row = found["auc"]
    assert row["model"]["low"] <= row["model"]["value"] <= row["model"]["high"]
    for column in ("size_only", "size_only_long_axis", "size_only_mean_axis"):
        other = row["beside"][column]
        assert 0.5 < other["value"] < row["model"]["value"]
        gain = row["model"]["value"] - other["value"]
        assert other["model_minus"]["value"] == pytest.approx(gain, abs=1e-3)
        assert other["model_minus"]["low"] < gain < other["model_minus"]["high"]
    constant = found["score_mae"]["beside"]["constant"]
    assert constant["value"] > found["score_mae"]["model"]["value"]


def test_one_reader_is_held_to_the_others_on_the_same_nodules(simulate, info):
    answered = simulate()
    found = figures(answered, info)
    several = [case for case, _ in answered if len(case.malignancy) > 1]
    readers = found["score_mae"]["beside"]["readers"]
    assert (found["score_mae"]["n"], readers["n"]) == (80, len(several))
    gaps = [
        abs(rating - (sum(case.malignancy) - rating) / 3)
        for case in several
        for rating in case.malignancy
    ]
    assert readers["value"] == pytest.approx(np.mean(gaps), abs=1e-4)
    # of the four readings d - 2, d, d, d + 2: (8/3 + 0 + 0 + 8/3) / 4
    long_axis = found["long_axis_mae_mm"]["beside"]["readers"]
    assert long_axis["value"] == pytest.approx(4 / 3, abs=1e-4)
    assert found["mask_dice"]["beside"]["readers"]["value"] == pytest.approx(0.75)
    assert found["mask_dice"]["beside"]["readers"]["model_minus"]["low"] == pytest.approx(0.05)
    assert found["texture_balanced_accuracy"]["beside"]["readers"]["value"] == 1


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
    assert found["short_axis_mae_mm"]["model"]["value"] == pytest.approx(0.55)
    assert found["mean_axis_mae_mm"]["model"]["value"] == pytest.approx(0.6)
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


def test_size_that_no_reader_gave_leaves_the_nodule_out(simulate, info):
    answered = simulate()
    case, answer = answered[0]
    answered[0] = (replace(case, equivalent_diameter_mm=math.nan, reader_short_axes_mm=()), answer)
    found = figures(answered, info)
    assert (found["diameter_mae_mm"]["n"], found["diameter_mae_mm"]["missing"]) == (79, 0)
    assert found["mean_axis_mae_mm"]["n"] == found["size_bin_kappa"]["n"] == 79


def test_majority_texture_is_as_good_as_chance(simulate, info, baselines):
    row = figures(simulate(), info, baselines)["texture_balanced_accuracy"]
    assert row["model"]["value"] == 1
    assert row["beside"]["constant"]["value"] == pytest.approx(1 / 3, abs=1e-4)


def test_size_classes_that_agree_have_a_kappa_of_1(simulate, info):
    answered = simulate()
    right = [(c, replace(a, mean_diameter_mm=c.mean_axis_mm)) for c, a in answered]
    assert figures(right, info)["size_bin_kappa"]["model"]["value"] == 1
    always = [(c, replace(a, mean_diameter_mm=9.0)) for c, a in answered]
    assert figures(always, info)["size_bin_kappa"]["model"]["value"] == 0


def covering(simulate, share, count):
    """Nodules whose diameter's interval covers it for the given share of them."""
    pairs = simulate(count)
    hits = round(share * count)
    return [
        (c, replace(a, equivalent_diameter_interval_mm=a.equivalent_diameter_interval_mm))
        if n < hits
        else (c, replace(a, equivalent_diameter_interval_mm=(0.0, 0.1)))
        for n, (c, a) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("share", "inside"), [(0.9, True), (0.85, True), (0.8, False), (1.0, False)]
)
def test_coverage_is_compared_with_what_chance_gives(simulate, info, share, inside):
    row = figures(covering(simulate, share, 100), info)["diameter_coverage_90"]
    assert row["model"]["value"] == share
    # the central 95% of a binomial of 100 and 0.9 is 84 to 95
    assert row["binomial"] == {"expected": 0.9, "low": 0.84, "high": 0.95, "inside": inside}


def test_only_coverages_are_compared_with_chance(simulate, info):
    found = figures(simulate(), info)
    assert {name for name, row in found.items() if row["binomial"]} == {
        name for name, row in found.items() if "_coverage_90" in name and row["n"]
    }


def test_strata_share_out_the_nodules(simulate, info):
    found = figures(simulate(), info)
    for strata in (
        ("non_solid", "part_solid", "solid"),
        ("slices_0_1p5_mm", "slices_1p5_2_mm", "slices_2_up_mm"),
    ):
        counts = [found[f"diameter_mae_{stratum}"]["n"] for stratum in strata]
        assert min(counts) > 0
        assert sum(counts) == 80
    assert found["auc_solid"]["stratum"] == "solid"
    assert found["auc_solid"]["population"] == "protocol P, solid"


def test_uncertainty_that_marks_the_errors_is_seen(simulate, info):
    answered = []
    for n, (case, answer) in enumerate(simulate(100)):
        wrong = n % 5 == 0
        probability = 0.9 if case.malignant != wrong else 0.1
        answered.append(
            (case, replace(answer, probability_malignant=probability, entropy=float(wrong)))
        )
    found = figures(answered, info)
    accuracy = found["accuracy"]["model"]["value"]
    assert found["error_detection_entropy"]["model"]["value"] == 1
    assert found["error_detection_mutual_information"]["model"]["value"] == 0.5
    assert found["accuracy_gain_entropy"]["model"]["value"] == pytest.approx(1 - accuracy, abs=1e-3)


def test_confusion_counts_named_classes_by_the_readers_median(simulate, info):
    answered = [pair for pair in simulate() if pair[0].enough_readers][:4]
    ratings = ((1, 1, 2), (3, 3, 3), (5, 5, 4), (5, 5, 5))
    names = ("benign", "malignant", "malignant", "indeterminate")
    answered = [
        (replace(c, malignancy=r), replace(a, class_name=name))
        for (c, a), r, name in zip(answered, ratings, names, strict=True)
    ]
    assert document(answered, info)["confusion"] == {
        "classes": ["benign", "indeterminate", "malignant"],
        "table": [[1, 0, 0], [0, 0, 1], [0, 1, 1]],
    }


@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_nodules_give_null_and_never_nan(simulate, info, baselines, count):
    benign = [pair for pair in simulate() if pair[0].in_protocol and not pair[0].malignant][:count]
    made = document(benign, info, baselines)
    json.dumps(made, allow_nan=False)
    assert all(math.isfinite(number) for number in every_number(made))
    row = made["figures"]["auc"]
    assert row["n"] == count
    assert row["model"] == {"value": None, "low": None, "high": None}


def test_population_without_nodules_is_null_with_n_0(simulate, info):
    unrated = [(replace(case, malignancy=()), answer) for case, answer in simulate(12)]
    found = figures(unrated, info)
    assert found["score_mae"]["n"] == found["auc"]["n"] == 0
    assert found["score_mae"]["model"]["value"] is None
    assert found["diameter_mae_mm"]["n"] == 12


def test_without_baselines_nothing_is_compared_and_a_warning_says_so(simulate, info):
    made = document(simulate(20), info)
    assert set(made["figures"]["auc"]["beside"]) == {"readers"}
    assert made["baselines"] is None
    assert "no baselines" in made["warnings"][0]


def test_baseline_that_lacks_a_size_of_one_nodule_is_left_out(simulate, info, baselines):
    answered = simulate()
    case, answer = next(pair for pair in answered if pair[0].in_protocol)
    bare = (replace(case, reader_short_axes_mm=()), answer)
    found = figures([bare, *(p for p in answered if p[0].id != case.id)], info, baselines)
    assert "size_only_mean_axis" not in found["auc"]["beside"]
    assert "size_only_long_axis" in found["auc"]["beside"]


def test_synthesised_context_and_training_nodules_are_told(simulate, info, baselines):
    answered = [(replace(c, context="none", split="train"), a) for c, a in simulate(20)]
    made = document(answered, info, baselines)
    assert "synthesised context: 20 of 20" in made["warnings"][0]
    assert "split train" in made["warnings"][1]
    assert made["data"]["context"] == {"none": 20}


def test_cross_validation_is_of_no_single_model_and_holds_its_nodules_out(simulate):
    answered = [(replace(c, split="train"), a) for c, a in simulate(120)]
    evidence = out_of_fold({"a": answered[:60], "b": answered[60:]})
    made = summarise(evidence, None, config=CONFIG, predictions=[{"file": "a"}, {"file": "b"}])
    assert made["model"] is None
    assert made["baselines"]["source"] == "fitted on the other files"
    assert len(made["baselines"]["fits"]) == 2
    assert [entry["file"] for entry in made["predictions"]] == ["a", "b"]
    assert not any("split train" in warning for warning in made["warnings"])
    assert "size_only" in made["figures"]["auc"]["beside"]


def test_bootstrap_settings_and_provenance_are_kept_and_used(simulate, info):
    answered = simulate(40)
    made = document(answered, info, provenance={"licence": "CC0"})
    assert made["bootstrap"]["resamples"] == 40
    assert made["data"]["provenance"] == {"licence": "CC0"}
    other = BootstrapConfig(resamples=40, seed=3)
    assert figures(answered, info, config=other) != all_figures(made)


def test_worst_cases_come_first(simulate):
    answered = simulate()
    case, answer = answered[5]
    answered[5] = (case, replace(answer, equivalent_diameter_mm=99.0))
    worst = worst_cases(answered, count=3)
    assert [len(rows) for rows in worst.values()] == [3, 3, 3]
    assert worst["diameter"][0]["id"] == "n5"
    errors = [abs(row["error"]) for row in worst["class"]]
    assert errors == sorted(errors, reverse=True)


def test_worst_nodules_of_all_lists_are_taken_in_turn():
    lists = {
        "class": [{"id": name} for name in "abc"],
        "score": [{"id": name} for name in "bde"],
        "diameter": [{"id": "f"}],
    }
    assert worst_ids(lists, 5) == ["a", "b", "f", "d", "c"]


def test_nothing_to_evaluate_is_an_error(info):
    with pytest.raises(InputError, match="no nodule"):
        document([], info)
