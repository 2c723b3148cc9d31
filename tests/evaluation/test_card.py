import copy
import re

import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.card import figures_section, model_card
from resmtnet.evaluation.evidence import of_model, out_of_fold
from resmtnet.evaluation.figures import all_figures
from resmtnet.evaluation.limits import limits
from resmtnet.evaluation.summary import summarise

CONFIG = BootstrapConfig(resamples=40)
MANIFEST = {
    "name": "resmtnet",
    "version": "7",
    "sha256": "ab" * 32,
    "provenance": {
        "data": {"licence": "CC BY 3.0", "attribution": "Armato et al."},
        "training": {"nodules": 1931, "patients": 661, "calibration_folds": [0, 1]},
        "torch": "2.13",
        "began_with": [{"epochs": 30, "folds_apart": [0, 3]}, {"epochs": 31, "folds_apart": []}],
    },
}


@pytest.fixture(scope="module")
def cubes(simulate, info, baselines):
    return summarise(of_model(simulate(40), baselines), info, config=CONFIG)


@pytest.fixture(scope="module")
def folds(simulate):
    answered = simulate(80)
    evidence = out_of_fold({"a.csv": answered[:40], "b.csv": answered[40:]})
    return summarise(evidence, None, None, CONFIG, [{"file": "a.csv"}, {"file": "b.csv"}])


@pytest.fixture(scope="module")
def card(cubes, folds):
    return model_card(MANIFEST, {"docs/folds.json": folds, "docs/cubes.json": cubes})


def test_each_network_that_training_began_with_has_rows_of_its_own(card):
    for row in ("began with 1, folds apart | 0, 3", "began with 2, epochs | 31"):
        assert f"| {row} |" in card


def test_section_has_a_row_for_each_figure(cubes):
    section = figures_section(cubes)
    for row in all_figures(cubes).values():
        assert row["label"] in section
    auc = cubes["figures"]["auc"]
    assert f"| AUC | protocol P | {auc['n']} | {auc['model']['value']:.3f} [" in section
    assert "readers' own size" in section


def test_rows_of_the_card_have_as_many_cells_as_their_head(card):
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_card_names_each_document_and_shows_its_figures(card, cubes, folds):
    for name, document in (("docs/folds.json", folds), ("docs/cubes.json", cubes)):
        assert f"`{name}`" in card
        model = document["figures"]["score_mae"]["model"]
        assert f"{model['value']:.3f} [{model['low']:.3f}, {model['high']:.3f}]" in card
    assert card.index("docs/folds.json") < card.index("docs/cubes.json")
    assert "not the shipped weights" in card


def test_card_says_whose_data_it_is_what_it_is_for_and_what_it_is_not(card):
    assert card.startswith("# Model card: Res-MTNet, version 7\n\n**Not a medical device.**")
    assert "| data, licence | CC BY 3.0 |" in card
    assert "| training, nodules | 1931 |" in card
    assert "| training, calibration folds | 0, 1 |" in card
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "What it is",
        "Intended use",
        "Data",
        "Targets and calibration",
        "Figures",
        "Limits",
        "How it was made",
    ]
    assert "10.7937/K9/TCIA.2015.LO9QL9SX" in card
    assert "--model-version 7" in card


def test_same_sources_give_the_same_card(card, cubes, folds):
    again = model_card(MANIFEST, {"docs/folds.json": folds, "docs/cubes.json": cubes})
    assert again == card


def test_figures_of_other_weights_are_refused(cubes):
    with pytest.raises(InputError, match=r"cubes\.json was made with the weights abababababab"):
        model_card({**MANIFEST, "sha256": "cd" * 32}, {"cubes.json": cubes})


def test_card_without_figures_is_refused():
    with pytest.raises(InputError, match="at least one metrics"):
        model_card(MANIFEST, {})


def found_limits(document, **changes):
    """Limits of a document in which estimates of figures were replaced."""
    changed = copy.deepcopy(document)
    for name, (value, low, high) in changes.items():
        changed["figures"][name]["model"] = {"value": value, "low": low, "high": high}
    return " ".join(limits({"d.json": changed}))


def test_probabilities_that_are_not_calibrated_are_a_limit(cubes):
    assert "calibration slope 0.700" in found_limits(cubes, calibration_slope=(0.7, 0.6, 0.8))
    assert "calibration slope" not in found_limits(cubes, calibration_slope=(0.9, 0.8, 1.1))
    assert "intercept" in found_limits(cubes, calibration_intercept=(0.3, 0.1, 0.5))


def test_gain_over_size_only_that_is_not_shown_is_a_limit(cubes):
    changed = copy.deepcopy(cubes)
    entry = changed["figures"]["auc"]["beside"]["size_only"]
    entry["model_minus"] = {"value": 0.01, "low": -0.02, "high": 0.04}
    assert "do not show an AUC above size only" in " ".join(limits({"d.json": changed}))
    entry["model_minus"]["low"] = 0.005
    assert "above size only" not in " ".join(limits({"d.json": changed}))


def test_coverage_beyond_chance_is_a_limit_and_names_its_document(cubes):
    changed = copy.deepcopy(cubes)
    changed["figures"]["score_coverage_90"]["binomial"]["inside"] = False
    changed["figures"]["score_coverage_90"]["model"]["value"] = 0.5
    found = [text for text in limits({"docs/d.json": changed}) if "malignancy score" in text]
    assert any("(`docs/d.json`)" in text and "0.500" in text for text in found)


def test_nodules_without_a_size_are_a_limit(cubes):
    changed = copy.deepcopy(cubes)
    changed["figures"]["diameter_mae_mm"]["missing"] = 3
    assert "3 nodules got no diameter" in " ".join(limits({"d.json": changed}))


def test_card_of_a_revised_model_says_what_was_changed_and_how_the_weights_were_made(cubes):
    revised = {"version": "2", "sha256": "cd" * 32, "note": "The intervals are wider."}
    provenance = {**MANIFEST["provenance"], "revised": revised}
    text = model_card({**MANIFEST, "provenance": provenance}, {"cubes.json": cubes})
    assert "--model-version 2" in text
    assert "The intervals are wider." in text
    assert "cdcdcdcdcdcd" in text
