import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.evidence import of_model, out_of_fold
from resmtnet.evaluation.occlusion import centres_mm
from resmtnet.evaluation.pictures import SlicePicture
from resmtnet.evaluation.report import write_metrics, write_report
from resmtnet.evaluation.summary import summarise

CONFIG = BootstrapConfig(resamples=40)
PNG = b"\x89PNG\r\n"
PLOTS = 8
HU = np.full((20, 30), -800, np.int16)


@pytest.fixture(scope="module")
def evidence(simulate, baselines):
    return of_model(simulate(40), baselines)


@pytest.fixture(scope="module")
def document(evidence, info):
    return summarise(evidence, info, {"data": "a <b> & c"}, CONFIG)


def page_of(path, *arguments):
    write_report(path / "report.html", *arguments)
    return (path / "report.html").read_text(encoding="utf-8")


def pictures_in(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert all(base64.b64decode(picture).startswith(PNG) for picture in found)
    return found


def test_metrics_file_gives_the_document_back(tmp_path, document):
    write_metrics(tmp_path / "metrics.json", document)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == document


def test_page_needs_nothing_from_elsewhere(tmp_path, document, evidence):
    page = page_of(tmp_path, document, evidence)
    assert len(pictures_in(page)) == PLOTS
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_page_shows_figures_baselines_confusion_and_worst_cases(tmp_path, document, evidence):
    page = page_of(tmp_path, document, evidence)
    auc = document["figures"]["auc"]
    assert f"{auc['model']['value']:.3f} [" in page
    for entry in auc["beside"].values():
        assert f"{entry['value']:.3f} [" in page
        assert f"{entry['model_minus']['value']:.3f} [" in page
    binomial = document["figures"]["score_coverage_90"]["binomial"]
    assert f"{binomial['low']:.3f}-{binomial['high']:.3f}" in page
    assert "Model: indeterminate" in page
    assert document["worst_cases"]["diameter"][0]["id"] in page
    assert "Not a medical device" in page
    assert "a &lt;b&gt; &amp; c" in page


def test_page_shows_the_pictures_that_it_is_given(tmp_path, document, evidence):
    worst = SlicePicture("n<1>", "readers 5 5", HU, (0.7, 0.7), (10, 15))
    added = np.zeros((len(centres_mm()),) * 2)
    page = page_of(tmp_path, document, evidence, [worst, replace(worst, id="n2", added=added)])
    assert len(pictures_in(page)) == PLOTS + 2
    assert "n&lt;1&gt;: readers 5 5" in page
    assert page.index("The worst cases as pictures") < page.index("What the model looks at")


def test_page_without_pictures_leaves_their_headings_out(tmp_path, document, evidence):
    page = page_of(tmp_path, document, evidence)
    assert "as pictures" not in page
    assert "looks at" not in page


def test_page_of_a_cross_validation_names_its_files(tmp_path, simulate):
    answered = simulate(80)
    evidence = out_of_fold({"a.csv": answered[:40], "b.csv": answered[40:]})
    listed = [
        {"file": f"{name}.csv", "sha256": name * 64, "nodules": 40, "patients": 20} for name in "ab"
    ]
    document = summarise(evidence, None, None, CONFIG, listed)
    page = page_of(tmp_path, document, evidence)
    assert "Cross-validation, 2 groups of patients: evaluation" in page
    assert f"b.csv: 40 nodules of 20 patients, sha256 {'b' * 64}" in page
    assert "fitted on the other groups of patients" in page


def test_page_is_written_for_a_single_unrated_nodule(tmp_path, evidence, info):
    case, answer = evidence.answered[0]
    alone = of_model([(replace(case, malignancy=(), texture_rating=None), answer)], None)
    page = page_of(tmp_path, summarise(alone, info, config=CONFIG), alone)
    assert page.count("Too few nodules to draw.") == PLOTS - 1  # one diameter can be drawn
    assert not re.search(r"\bnan\b", page)
