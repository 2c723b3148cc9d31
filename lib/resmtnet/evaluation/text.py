"""Figures as text: numbers with intervals, table cells, and the first lines of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resmtnet.evaluation.evidence import CROSS_FITTED
from resmtnet.evaluation.figure import COMPARED
from resmtnet.types import Json

ORACLE = "Size only is given the readers' own size, which no user has"
ONE_READER = (
    "One reader: the same figure for each reader against the others on the same nodules, where "
    "there are at least two (the class against the others' median, sizes, score and texture "
    "against their mean, size class and mask pair by pair)."
)


def estimate_text(estimate: Mapping[str, float | None] | None) -> str:
    """Return a figure as text, with its interval where there is one.

    >>> estimate_text({"value": 0.95126, "low": 0.936, "high": 0.965})
    '0.951 [0.936, 0.965]'
    >>> estimate_text(None), estimate_text({"value": None, "low": None, "high": None})
    ('', 'n/a')
    >>> estimate_text({"value": -0.0001, "low": None, "high": None})
    '0.000'
    """
    if estimate is None:
        return ""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "n/a"
    text = _decimals(value)
    return text if low is None or high is None else f"{text} [{_decimals(low)}, {_decimals(high)}]"


def _decimals(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0 makes 0 of -0


def label_text(row: Json) -> str:
    """Return a figure's label with its unit.

    >>> label_text({"label": "Bias", "unit": "mm"}), label_text({"label": "AUC", "unit": "1"})
    ('Bias, mm', 'AUC')
    """
    return str(row["label"]) if row["unit"] == "1" else f"{row['label']}, {row['unit']}"


def count_text(row: Json) -> str:
    """Return on how many nodules a figure is computed, and for how many there was no answer.

    >>> count_text({"n": 38, "missing": 2})
    '38 (2 unanswered)'
    """
    return f"{row['n']} ({row['missing']} unanswered)" if row["missing"] else str(row["n"])


def binomial_text(block: Json | None) -> str:
    """Return whether a coverage is within what chance alone gives.

    >>> binomial_text({"expected": 0.9, "low": 0.88, "high": 0.92, "inside": True})
    'within 0.880-0.920'
    """
    if block is None:
        return ""
    return f"{'within' if block['inside'] else 'OUTSIDE'} {block['low']:.3f}-{block['high']:.3f}"


def group_table(rows: Sequence[Json]) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of a table of figures; columns that nothing fills are left out.

    Args:
        rows: figures of the document.
    """
    beside = [name for name in COMPARED if any(name in row["beside"] for row in rows)]
    binomial = any(row["binomial"] for row in rows)
    head = ["", "Nodules", "n", "Patients", "Better", "Model"]
    for name in beside:
        head += [COMPARED[name], "Model - it"]
    cells = []
    for row in rows:
        line = [label_text(row), row["population"], count_text(row), str(row["patients"])]
        line += [row["better"], estimate_text(row["model"])]
        for name in beside:
            entry = row["beside"].get(name)
            line += [estimate_text(entry), estimate_text(entry and entry["model_minus"])]
        cells.append(line + ([binomial_text(row["binomial"])] if binomial else []))
    return head + (["Binomial 95%"] if binomial else []), cells


def subject(document: Json) -> str:
    """Return what was evaluated, for titles."""
    model = document["model"]
    if model is None:
        return f"Cross-validation, {len(document['predictions'])} groups of patients"
    return f"{model['name']} {model['version']}"


def preamble(document: Json) -> str:
    """Return one paragraph: what was evaluated, and how the intervals were made."""
    data, bootstrap = document["data"], document["bootstrap"]
    protocol, baselines = data["protocol"], document["baselines"]
    fitted = ""
    if baselines is not None:
        crossed = baselines["source"] == CROSS_FITTED
        where = "the other groups of patients" if crossed else "the model's training nodules"
        fitted = f"; it and the constants were fitted on {where}"
    return (
        f"{data['nodules']} nodules of {data['patients']} patients; protocol P (at least 3 "
        f"readers, median malignancy not 3): {protocol['benign']} benign, "
        f"{protocol['malignant']} malignant. The truth is what the readers say, not pathology. "
        f"{bootstrap['confidence']:.0%} intervals: percentile bootstrap of patients, "
        f"{bootstrap['resamples']} draws, seed {bootstrap['seed']}; differences are paired. "
        f"{ORACLE}{fitted}. {ONE_READER}"
    )
