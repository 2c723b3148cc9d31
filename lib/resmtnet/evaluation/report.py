"""Writes metrics.json, and report.html as one page without links to other files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from resmtnet.evaluation import plots, score_size_plots
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.evidence import Evidence
from resmtnet.evaluation.figures import GROUPS, TITLES, all_figures
from resmtnet.evaluation.page import page, picture, table
from resmtnet.evaluation.pictures import SlicePicture, draw
from resmtnet.evaluation.text import group_table, preamble, subject
from resmtnet.types import Json

READING = (
    "How to read the tables: a figure is followed by its interval in brackets. “Model - it” is "
    "the paired difference to the column on its left; an interval of it that holds 0 means that "
    "these nodules do not show a difference. “Binomial 95%” is where the coverage of intervals "
    "that are right 90% of the time would fall by chance. An expected calibration error "
    "grows with resampling, so that its interval may lie above it."
)


def write_metrics(path: Path, document: Json) -> None:
    """Write a document of schema resmtnet.metrics/3."""
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_report(
    path: Path, document: Json, evidence: Evidence, pictures: Sequence[SlicePicture] = ()
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        document: of schema resmtnet.metrics/3.
        evidence: what it was made from, for the plots.
        pictures: of the worst cases, and of saliencies.
    """
    title = f"{subject(document)}: evaluation"
    notes = "".join(f'<p class="warning">{escape(text)}</p>' for text in document["warnings"])
    worst = [picture for picture in pictures if picture.added is None]
    salient = [picture for picture in pictures if picture.added is not None]
    body = [
        f"<p>{escape(preamble(document))}</p><p>{escape(READING)}</p>",
        notes,
        _plots(document, evidence),
        _confusion(document),
        *(_figures(document, group) for group in GROUPS),
        _slices(
            "The worst cases as pictures",
            "Central slice in the lung window. Green: what at least half of the readers marked. "
            "Orange, dashed: the model's mask.",
            worst,
        ),
        _slices(
            "What the model looks at",
            "A block of 8 mm is moved over the slices and covered by the mean of its surroundings. "
            "Red: covering it lowers the probability of malignant, so that what is there speaks "
            "for malignant; blue: against. The nodules are spread over the range of answers, not "
            "chosen.",
            salient,
        ),
        _worst_cases(document),
        f"<p>{_sources(document)}</p>",
    ]
    path.write_text(page(title, body), encoding="utf-8")


def _sources(document: Json) -> str:
    given = document["data"]["provenance"]
    lines = [f"Data: {'; '.join(f'{k}: {v}' for k, v in given.items()) or 'not stated'}"]
    if document["model"]:
        lines.append(f"Model sha256: {document['model']['sha256']}")
    lines += [
        f"{entry['file']}: {entry['nodules']} nodules of {entry['patients']} patients, "
        f"sha256 {entry['sha256']}"
        for entry in document["predictions"]
    ]
    return "<br>".join(escape(line) for line in lines)


def _plots(document: Json, evidence: Evidence) -> str:
    settings = {k: v for k, v in document["bootstrap"].items() if k != "unit"}
    figures, answered = all_figures(document), evidence.answered
    score, diameter = score_size_plots.SCORE, score_size_plots.DIAMETER
    spread = "Band: 95% of one reader's differences from the mean of the others."
    drawn = (
        (
            "ROC of the class on protocol P; the band is the pointwise interval.",
            plots.roc(evidence, figures["auc"], BootstrapConfig(**settings)),
        ),
        (
            "AUC on protocol P, all and by the readers' equivalent diameter.",
            plots.size_bands(figures),
        ),
        (
            "Reliability on protocol P, equal-mass bins; bars are Wilson's 95% intervals.",
            plots.calibration(evidence),
        ),
        (
            "Risk and coverage on protocol P: errors of the class when only the most certain "
            "nodules are answered.",
            plots.risk(evidence),
        ),
        ("Malignancy score, every rated nodule.", score_size_plots.scatter(score, answered)),
        (f"Malignancy score. {spread}", score_size_plots.differences(score, answered)),
        ("Equivalent diameter, every nodule.", score_size_plots.scatter(diameter, answered)),
        (f"Equivalent diameter. {spread}", score_size_plots.differences(diameter, answered)),
    )
    return "<h2>Plots</h2>" + "".join(picture(caption, image) for caption, image in drawn)


def _slices(title: str, note: str, pictures: Sequence[SlicePicture]) -> str:
    if not pictures:
        return ""
    shown = "".join(picture(f"{p.id}: {p.caption}", draw(p)) for p in pictures)
    return f"<h2>{escape(title)}</h2><p>{escape(note)}</p>{shown}"


def _figures(document: Json, group: str) -> str:
    rows = [row for row in all_figures(document).values() if row["group"] == group]
    return f"<h2>{escape(TITLES[group])}</h2>" + table(*group_table(rows))


def _confusion(document: Json) -> str:
    block = document["confusion"]
    head = ("Readers' median (>= 3 readers)", *(f"Model: {name}" for name in block["classes"]))
    names = [f"{name} (3)" if name == "indeterminate" else name for name in block["classes"]]
    rows = [(name, *row) for name, row in zip(names, block["table"], strict=True)]
    return "<h2>Named classes</h2>" + table(head, rows)


def _worst_cases(document: Json) -> str:
    titles = {
        "class": "Probability of malignant, protocol P",
        "score": "Malignancy score",
        "diameter": "Equivalent diameter, mm",
    }
    head = (
        "Nodule",
        "Readers' malignancy",
        "Diameter, mm",
        "Texture",
        "Slices, mm",
        "Readers",
        "Model",
        "Error",
    )
    parts = ["<h2>Worst cases</h2>"]
    for name, rows in document["worst_cases"].items():
        cells = [
            (
                row["id"],
                " ".join(str(rating) for rating in row["malignancy"]),
                _number(row["equivalent_diameter_mm"], ".1f"),
                row["texture"] or "",
                _number(row["slice_thickness_mm"], ".2f"),
                f"{row['readers']:.2f}",
                f"{row['model']:.2f}",
                f"{row['error']:+.2f}",
            )
            for row in rows
        ]
        parts.append(f"<h3>{escape(titles[name])}</h3>" + table(head, cells))
    return "".join(parts)


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
