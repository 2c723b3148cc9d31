import base64
import json
import re
from dataclasses import replace

import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.card import BEGIN, END, model_card_section, replace_section
from resmtnet.evaluation.report import write_metrics, write_report
from resmtnet.evaluation.summary import summarise

CONFIG = BootstrapConfig(resamples=40)
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def answered(simulate):
    return simulate(40)


@pytest.fixture(scope="module")
def document(answered, info, baselines):
    return summarise(answered, info, baselines, {"data": "a <b> & c"}, CONFIG)


def test_metrics_file_gives_the_document_back(tmp_path, document):
    write_metrics(tmp_path / "metrics.json", document)
    assert json.loads((tmp_path / "metrics.json").read_text()) == document


def test_page_needs_nothing_from_elsewhere(tmp_path, document, answered):
    write_report(tmp_path / "report.html", document, answered)
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4
    assert all(base64.b64decode(picture).startswith(PNG) for picture in pictures)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_page_shows_figures_baselines_and_worst_cases(tmp_path, document, answered):
    write_report(tmp_path / "report.html", document, answered)
    page = (tmp_path / "report.html").read_text()
    auc = document["figures"]["auc"]
    for column in ("model", "size_only", "constant", "model_minus_size_only"):
        assert f"{auc[column]['value']:.3f} [" in page
    assert document["worst_cases"]["diameter"][0]["id"] in page
    assert "Not a medical device" in page
    assert "a &lt;b&gt; &amp; c" in page


def test_page_is_written_for_a_single_unrated_nodule(tmp_path, answered, info):
    case, answer = answered[0]
    alone = [(replace(case, malignancy=(), texture_rating=None), answer)]
    write_report(tmp_path / "report.html", summarise(alone, info, None, config=CONFIG), alone)
    page = (tmp_path / "report.html").read_text()
    assert page.count("Too few nodules to draw.") == 4
    assert not re.search(r"\bnan\b", page)


def test_card_has_a_row_for_each_figure(document):
    section = model_card_section(document)
    for row in document["figures"].values():
        assert f"{row['label']}" in section
    auc = document["figures"]["auc"]["model"]
    assert (
        f"| AUC | protocol P | {document['figures']['auc']['n']} | {auc['value']:.3f} [" in section
    )
    assert "readers' own size" in section


def test_rows_of_the_card_have_as_many_cells_as_their_head(document):
    for table in re.findall(r"(?:^\|.*\n)+", model_card_section(document), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_card_keeps_what_stands_around_the_markers(document):
    card = f"# Model\nbefore\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_section(card, model_card_section(document))
    assert once.startswith("# Model\nbefore\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    assert replace_section(once, model_card_section(document)) == once


@pytest.mark.parametrize("card", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_card_without_markers_is_refused(card):
    with pytest.raises(InputError, match="figures: begin"):
        replace_section(card, "new")
