"""metrics.json and report.html: one page that needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from resmtnet.evaluation import plots
from resmtnet.evaluation.baselines import Baselines
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.card import (
    COLUMNS,
    TITLES,
    count_text,
    estimate_text,
    label_text,
    preamble,
)
from resmtnet.evaluation.figures import GROUPS
from resmtnet.evaluation.records import Answered
from resmtnet.findings import Json

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #ddd }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 30rem }
figcaption { font-size: .9em; color: #555 }
.warning { border-left: 4px solid #b35900; padding-left: .8rem }
"""

Row = Sequence[object]


def write_metrics(path: Path, document: Json) -> None:
    """Write a document of schema resmtnet.metrics/1."""
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_report(path: Path, document: Json, answered: Sequence[Answered]) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        document: of schema resmtnet.metrics/1.
        answered: the nodules it was made from, for the plots.
    """
    model = document["model"]
    title = f"{model['name']} {model['version']}: evaluation"
    notes = "".join(f'<p class="warning">{escape(text)}</p>' for text in document["warnings"])
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(preamble(document))}</p>",
        notes,
        _pictures(document, answered),
        *(_figures(document, group) for group in GROUPS),
        _worst_cases(document),
        f"<p>Data: {escape(_provenance(document))}<br>Model sha256: {escape(model['sha256'])}</p>",
        "<p>Not a medical device. Class and score estimate what readers would say of a nodule, "
        "not a risk proven by pathology.</p>",
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _provenance(document: Json) -> str:
    given = document["data"]["provenance"]
    return "; ".join(f"{key}: {value}" for key, value in given.items()) or "not stated"


def _pictures(document: Json, answered: Sequence[Answered]) -> str:
    baselines = Baselines.from_json(document["baselines"]) if document["baselines"] else None
    settings = {k: v for k, v in document["bootstrap"].items() if k != "unit"}
    drawn = (
        (
            "ROC of the class on protocol P; the band is the pointwise interval.",
            plots.roc(answered, baselines, document["figures"]["auc"], BootstrapConfig(**settings)),
        ),
        (
            "Reliability on protocol P, equal-mass bins; bars are Wilson's 95% intervals.",
            plots.calibration(answered, baselines),
        ),
        ("Malignancy score, every rated nodule.", plots.scores(answered)),
        (
            "Equivalent diameter: bias (solid) and 95% limits of agreement (dashed).",
            plots.sizes(answered),
        ),
    )
    return "<h2>Plots</h2>" + "".join(_picture(caption, png) for caption, png in drawn)


def _picture(caption: str, png: bytes | None) -> str:
    if png is None:
        return (
            f"<figure><figcaption>{escape(caption)} Too few nodules to draw.</figcaption></figure>"
        )
    source = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" width="440" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _figures(document: Json, group: str) -> str:
    rows = [
        (
            label_text(row),
            row["population"],
            count_text(row),
            row["patients"],
            row["better"],
            *(estimate_text(row[column]) for column in COLUMNS),
        )
        for row in document["figures"].values()
        if row["group"] == group
    ]
    head = ("", "Nodules", "n", "Patients", "Better", *COLUMNS.values())
    return f"<h2>{escape(TITLES[group])}</h2>" + _table(head, rows)


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
                f"{row['equivalent_diameter_mm']:.1f}",
                row["texture"] or "",
                f"{row['slice_thickness_mm']:.2f}",
                f"{row['readers']:.2f}",
                f"{row['model']:.2f}",
                f"{row['error']:+.2f}",
            )
            for row in rows
        ]
        parts.append(f"<h3>{escape(titles[name])}</h3>" + _table(head, cells))
    return "".join(parts)


def _table(head: Row, rows: Iterable[Row]) -> str:
    def line(cells: Row, tag: str) -> str:
        inner = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
