"""The figures section of MODEL_CARD.md, generated from metrics.json so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resmtnet.errors import InputError
from resmtnet.evaluation.figures import GROUPS
from resmtnet.findings import Json

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
"""Markers in the card; what stands between them is replaced."""

COLUMNS: Mapping[str, str] = {
    "model": "Model",
    "size_only": "Size only",
    "constant": "Constant",
    "model_minus_size_only": "Model - size only",
}
TITLES: Mapping[str, str] = {
    "class": "Class",
    "score": "Malignancy score",
    "size": "Size",
    "texture": "Texture",
    "input": "Input",
}
ORACLE = (
    "Size only is given the readers' own size, which no user has; it and the constants were "
    "fitted on training nodules."
)


def estimate_text(estimate: Mapping[str, float | None] | None) -> str:
    """Return a figure as text, with its interval where there is one.

    >>> estimate_text({"value": 0.95126, "low": 0.936, "high": 0.965})
    '0.951 [0.936, 0.965]'
    >>> estimate_text(None), estimate_text({"value": None, "low": None, "high": None})
    ('', 'n/a')
    """
    if estimate is None:
        return ""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def label_text(row: Json) -> str:
    """Return a figure's label with its unit.

    >>> label_text({"label": "Bias", "unit": "mm"}), label_text({"label": "AUC", "unit": "1"})
    ('Bias, mm', 'AUC')
    """
    return str(row["label"]) if row["unit"] == "1" else f"{row['label']}, {row['unit']}"


def count_text(row: Json) -> str:
    """Return how many nodules a figure stands on, and for how many there was no answer.

    >>> count_text({"n": 38, "missing": 2})
    '38 (2 unanswered)'
    """
    return f"{row['n']} ({row['missing']} unanswered)" if row["missing"] else str(row["n"])


def preamble(document: Json) -> str:
    """Return one paragraph: what was evaluated, and how the intervals were made."""
    data, bootstrap = document["data"], document["bootstrap"]
    protocol = data["protocol"]
    return (
        f"{data['nodules']} nodules of {data['patients']} patients; protocol P (at least 3 "
        f"readers, median malignancy not 3): {protocol['benign']} benign, "
        f"{protocol['malignant']} malignant. The truth is what the readers say, not pathology. "
        f"{bootstrap['confidence']:.0%} intervals: percentile bootstrap of patients, "
        f"{bootstrap['resamples']} draws, seed {bootstrap['seed']}. {ORACLE}"
    )


def model_card_section(document: Json) -> str:
    """Return the section as Markdown tables.

    Args:
        document: of schema resmtnet.metrics/1.
    """
    parts = [preamble(document)]
    parts += [f"- {warning}" for warning in document["warnings"]]
    for group in GROUPS:
        rows = [row for row in document["figures"].values() if row["group"] == group]
        head = [TITLES[group], "Nodules", "n", *COLUMNS.values()]
        table = [_line(head), _line(["---"] * len(head))]
        for row in rows:
            cells = [estimate_text(row[column]) for column in COLUMNS]
            table.append(_line([label_text(row), row["population"], count_text(row), *cells]))
        parts.append("\n".join(table))
    return "\n\n".join(parts) + "\n"


def replace_section(card: str, section: str) -> str:
    r"""Return a card with the text between its markers replaced.

    Args:
        card: text of MODEL_CARD.md; holds BEGIN and, after it, END.
        section: what to put between them.

    Raises:
        InputError: a marker is missing.

    >>> replace_section(f"# Card\n{BEGIN}\nold\n{END}\n", "new\n").splitlines()[2]
    'new'
    """
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the model card needs the lines {BEGIN!r} and {END!r}, in this order")
    return f"{before}{BEGIN}\n{section.strip()}\n{END}{after}"


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
