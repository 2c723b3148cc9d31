"""agreement.json and agreement.html: one page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from resmtnet.evaluation.agreement import plots
from resmtnet.evaluation.agreement.document import grouped
from resmtnet.evaluation.agreement.measures import MEASURES
from resmtnet.evaluation.page import page, picture, table
from resmtnet.evaluation.text import estimate_text, label_text
from resmtnet.readings.record import Reading
from resmtnet.types import Json

JSON_FILE, HTML_FILE = "agreement.json", "agreement.html"
TITLE = "Agreement of model and readers"
NAMES = {
    "blinded": "readers had not seen the answer",
    "unblinded": "readers had seen the answer",
    "unknown": "it is not known whether readers had seen the answer",
}
COUNTED = {
    "reader": "Reader",
    "source": "Way in",
    "evidence": "Evidence",
    "answer": "Answer of the model",
    "acceptance": "Acceptance",
    "class": "Class",
    "model_version": "Model version",
}
OVER_TIME = ("rating_weighted_kappa", "score_mae", "long_axis_mae_mm", "class_accuracy")
QUANTITIES = (
    ("score_mae", "malignancy score"),
    ("long_axis_mae_mm", "long axis, mm"),
    ("short_axis_mae_mm", "short axis, mm"),
    ("mean_diameter_mae_mm", "mean diameter, mm"),
    ("equivalent_diameter_mae_mm", "equivalent diameter, mm"),
)


def write_agreement(folder: Path, document: Json, readings: Sequence[Reading]) -> list[Path]:
    """Write the document and the page, and return both.

    Args:
        folder: made where it is missing.
        document: of schema resmtnet.agreement/1.
        readings: that it was made from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / JSON_FILE, folder / HTML_FILE]
    text = json.dumps(document, indent=1, allow_nan=False)
    files[0].write_text(text + "\n", encoding="utf-8")
    files[1].write_text(page(TITLE, _body(document, grouped(readings))), encoding="utf-8")
    return files


def _body(document: Json, members: dict[tuple[str, str], list[Reading]]) -> list[str]:
    groups = document["groups"]
    return [
        f"<p>{escape(_preamble(document))}</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in document["warnings"]),
        _readings(document),
        "<h2>Over time</h2><p>Impressions only. Periods with too few readings are left out.</p>",
        *(
            picture(f"{_label(groups, name)}.", plots.over_time(groups, name))
            for name in OVER_TIME
            if groups
        ),
        *(_group(group, members[group["evidence"], group["answer"]]) for group in groups),
        *_repeats(document["repeats"]),
    ]


def _repeats(found: Json) -> list[str]:
    """Show how much readers vary who read a study twice; nothing where nobody did."""
    if not found["repeats"]:
        return []
    labels = {measure.name: measure.label for measure in MEASURES}
    rows = [
        (reader, labels[name], one["n"], one["value"], one["low"], one["high"])
        for reader, figures in [("all", found["figures"]), *found["by_reader"].items()]
        for name, one in figures.items()
        if one["n"]
    ]
    head = ("Reader", "First reading and repeat", "n", "Value", "Low", "High")
    intro = f"{found['repeats']} readings of studies that their reader had read before."
    return [f"<h2>Reading twice</h2><p>{intro}</p>{table(head, rows)}"]


def _preamble(document: Json) -> str:
    least, bootstrap = document["least"], document["bootstrap"]
    return (
        "Each reading is compared with the model's answer that it corrects or confirms. Readings "
        "that were accepted in bulk, that were corrected later, or that say “not a nodule” are "
        "left out. Groups keep impressions, histology and follow-up apart, and readers who had "
        f"seen the answer from those who had not. A figure of fewer than {least['readings']} "
        f"readings is left out. Brackets: {bootstrap['confidence']:.0%} interval, percentile "
        f"bootstrap of patients ({bootstrap['resamples']} draws, seed {bootstrap['seed']}), given "
        f"for {least['patients']} patients or more. “Two readers” is the same figure between any "
        "two readers of one nodule in the same group. The kappa has linear weights; the model's "
        "score is rounded to a rating. The class is the reader's, or, where the reader gave none, "
        "that of the rating (4 and 5 malignant, 1 and 2 benign). A calibration slope below 1 means "
        "that the probabilities are too extreme; an intercept below 0 means that they are too high "
        "on average."
    )


def _readings(document: Json) -> str:
    counts = document["readings"]
    head = [name.replace("_", " ").capitalize() for name in counts if name != "by"]
    row = [value for name, value in counts.items() if name != "by"]
    tables = "".join(
        f"<h3>{escape(title)}</h3>"
        + table((title, "Readings that stand"), counts["by"][key].items())
        for key, title in COUNTED.items()
    )
    drawn = picture("Number of readings.", plots.count_over_time(counts["by"]["period"]))
    return f"<h2>Readings</h2>{table(head, [row])}{drawn}{tables}"


def _group(group: Json, members: Sequence[Reading]) -> str:
    title = f"{group['evidence'].replace('_', '-').capitalize()}: {NAMES[group['answer']]}"
    intro = f"{group['readings']} readings of {group['patients']} patients."
    empty = [label_text(row) for row in group["figures"].values() if not row["n"]]
    if empty:
        intro += f" No reading gives: {'; '.join(empty)}."
    head = ("", "n", "Patients", "Better", "Model and readers", "Two readers", "n")
    rows = [
        (
            label_text(row),
            row["n"],
            row["patients"],
            row["better"],
            row["left_out"] or estimate_text(row["model"]),
            estimate_text(row["readers"]),
            row["readers"]["n"] if row["readers"] else "",
        )
        for row in group["figures"].values()
        if row["n"]
    ]
    drawn = [
        picture(
            f"{label.capitalize()}. Band: 95% of the differences of two readers.",
            plots.differences(name, label, members),
        )
        for name, label in QUANTITIES
    ]
    drawn.append(
        picture("Calibration; bars are Wilson's 95% intervals.", plots.class_calibration(members))
    )
    parts = "".join(
        _part(group[key], name)
        for key, name in (
            ("by_reader", "Reader"),
            ("by_model_version", "Model version"),
            ("by_period", "Period"),
        )
    )
    return (
        f"<h2>{escape(title)}</h2><p>{escape(intro)}</p>{table(head, rows)}{''.join(drawn)}{parts}"
    )


def _part(entries: Json, name: str) -> str:
    if not entries:
        return ""
    labels = [label_text(row) for row in next(iter(entries.values())).values()]
    rows = [
        (key, *(f"{row['n']}: {estimate_text(row['model'])}" for row in figures.values()))
        for key, figures in entries.items()
    ]
    return table((name, *(f"{label} (n: value)" for label in labels)), rows)


def _label(groups: Sequence[Json], name: str) -> str:
    return label_text(groups[0]["figures"][name])
