"""Sentences for the model card about what the figures show the model not to do well."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resmtnet.evaluation.figures import all_figures
from resmtnet.evaluation.text import estimate_text, subject
from resmtnet.types import Json


def limits(documents: Mapping[str, Json]) -> list[str]:
    """Return what the documents show the model not to do well, each with its document.

    Args:
        documents: of schema resmtnet.metrics/3, by name.
    """
    return [
        f"{subject(document)} (`{name}`): {sentence}"
        for name, document in documents.items()
        for find in _FINDERS
        for sentence in find(all_figures(document))
    ]


def _gain(figures: Json) -> list[str]:
    """The AUC is not above size only by more than chance."""
    entry = figures["auc"]["beside"].get("size_only")
    if entry is None or entry["model_minus"]["value"] is None:
        return []
    low = entry["model_minus"]["low"]
    if low is not None and low > 0:
        return []
    return [
        f"{figures['auc']['n']} nodules do not show an AUC above size only: the difference is "
        f"{estimate_text(entry['model_minus'])}."
    ]


def _calibration(figures: Json) -> list[str]:
    """The interval of slope or intercept leaves out the ideal."""
    found = []
    for name in ("calibration_slope", "calibration_intercept"):
        row = figures[name]
        ideal, estimate = float(row["better"]), row["model"]
        if estimate["low"] is not None and not estimate["low"] <= ideal <= estimate["high"]:
            found.append(
                f"the probabilities are not calibrated: {row['label'].lower()} "
                f"{estimate_text(estimate)}, ideal {ideal:g}."
            )
    return found


def _size(figures: Json) -> list[str]:
    """How far sizes are off, and for how many there is none."""
    row, bias = figures["diameter_mae_mm"], figures["diameter_bias_mm"]["model"]
    if row["model"]["value"] is None:
        return []
    reader = row["beside"].get("readers")
    beside = f" (one reader: {estimate_text(reader)})" if reader else ""
    found = [
        f"the equivalent diameter is off by {estimate_text(row['model'])} mm on average{beside}, "
        f"bias {estimate_text(bias)} mm."
    ]
    if row["missing"]:
        found.append(f"{row['missing']} nodules got no diameter and do not count in its figures.")
    return found


def _worst_band(figures: Json) -> list[str]:
    """The stratum in which the diameter is worst."""
    rows = [
        row
        for name, row in figures.items()
        if name.startswith("diameter_mae_") and row["stratum"] and row["n"] >= _FEWEST
    ]
    if not rows:
        return []
    worst = max(rows, key=lambda row: float(row["model"]["value"]))
    return [
        f"the diameter is worst for {worst['stratum']}: {estimate_text(worst['model'])} mm on "
        f"{worst['n']} nodules."
    ]


def _coverage(figures: Json) -> list[str]:
    """Intervals that cover more or less than they claim."""
    found = []
    for row in figures.values():
        block = row["binomial"]
        if block is None or block["inside"]:
            continue
        found.append(
            f"{row['label'].lower()}, {row['population']}: {estimate_text(row['model'])}, outside "
            f"what chance gives ({block['low']:.3f}-{block['high']:.3f}, n = {row['n']})."
        )
    return found


_FEWEST = 10
_FINDERS: tuple[Callable[[Json], list[str]], ...] = (
    _gain,
    _calibration,
    _size,
    _worst_band,
    _coverage,
)
