"""Plots of the class for the report, as PNG: ROC, AUC by size, reliability, risk and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.evaluation.calibration import reliability_bins
from resmtnet.evaluation.canvas import (
    GUIDE,
    MODEL,
    READERS,
    SIZE_ONLY,
    diagonal,
    legend,
    legend_above,
    png,
    square,
)
from resmtnet.evaluation.class_figures import AUC
from resmtnet.evaluation.evidence import Evidence
from resmtnet.evaluation.figure import COMPARED, stratified
from resmtnet.evaluation.populations import CLASS_BANDS
from resmtnet.evaluation.text import estimate_text
from resmtnet.evaluation.uncertainty import risk_coverage, with_entropy
from resmtnet.types import Array, Json

BAND_DRAWS = 500
"""Draws for the band around a ROC; enough for a picture."""
FEWEST_KEPT = 10
"""Nodules below which an error rate is not drawn."""
_GRID = np.linspace(0, 1, 101)
_BY_DIAMETER = "equivalent_diameter_mm"


def roc(evidence: Evidence, row: Json, config: BootstrapConfig) -> bytes | None:
    """Draw the ROC on protocol P with its pointwise interval, beside size only.

    Args:
        evidence: all nodules.
        row: figure "auc" of the document.
        config: of the bootstrap.

    Returns:
        PNG, or None where a class is missing.
    """
    index, truth = _protocol(evidence)
    if not 0 < truth.sum() < len(truth):
        return None
    probability = _probability(evidence, index)
    figure, axes = square("1 - specificity", "Sensitivity")
    diagonal(axes, 0, 1)
    if evidence.baseline is not None:
        by_size = evidence.baseline.probability_by_size[_BY_DIAMETER][index]
        _curve(axes, truth, by_size, ("Size only", SIZE_ONLY), row["beside"].get("size_only"))
    _curve(axes, truth, probability, ("Model", MODEL), row["model"])
    resamples = Resamples([evidence.answered[n][0].patient_id for n in index], config)
    draws = list(islice(resamples.draws, BAND_DRAWS))
    curves = [_sensitivity(truth[i], probability[i]) for i in draws if 0 < truth[i].sum() < len(i)]
    if curves:
        tail = (1 - config.confidence) / 2
        low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
        axes.fill_between(_GRID, low, high, color=MODEL, alpha=0.15, lw=0)
    legend(axes, "lower right")
    return png(figure)


def size_bands(figures: Json) -> bytes | None:
    """Draw the AUC within size bands beside its baselines.

    Args:
        figures: of the document.

    Returns:
        PNG, or None where it is undefined in every band.
    """
    names = [AUC.name, *(stratified(AUC.name, band) for band in CLASS_BANDS)]
    rows = [figures[name] for name in names]
    if all(row["model"]["value"] is None for row in rows):
        return None
    series = {"Model": [row["model"] for row in rows]}
    for column, title in COMPARED.items():
        series[title] = [row["beside"].get(column) for row in rows]
    given = {label: entries for label, entries in series.items() if any(entries)}
    figure, axes = square("", "AUC")
    axes.axhline(0.5, color=GUIDE, lw=0.8, ls=":")
    for n, (label, entries) in enumerate(given.items()):
        for place, entry in enumerate(entries):
            if entry is None or entry["value"] is None:
                continue
            x, value = place + (n - (len(given) - 1) / 2) * 0.14, entry["value"]
            low, high = entry["low"], entry["high"]
            error = None if low is None else [[max(0, value - low)], [max(0, high - value)]]
            colour = MODEL if label == "Model" else READERS if "reader" in label else SIZE_ONLY
            axes.errorbar(x, value, error, color=colour, marker="osD^v"[n], ms=4, capsize=2)
        colour = MODEL if label == "Model" else READERS if "reader" in label else SIZE_ONLY
        axes.plot([], [], color=colour, marker="osD^v"[n], ls="", label=label)
    axes.set_xticks(range(len(rows)), ["all", *(band.label for band in CLASS_BANDS)])
    legend(axes, "lower left")
    return png(figure)


def calibration(evidence: Evidence) -> bytes | None:
    """Draw the reliability curve on protocol P over equal-mass bins, beside size only.

    Returns:
        PNG, or None without a nodule of protocol P.
    """
    index, truth = _protocol(evidence)
    if not index:
        return None
    return reliability_curves(truth, _series(evidence, index))


def reliability_curves(truth: Array, series: Sequence[tuple[str, str, Array]]) -> bytes:
    """Draw reliability curves over equal-mass bins, with Wilson's intervals.

    Args:
        truth: [N] 0 or 1.
        series: label, colour and probabilities [N] of each curve.
    """
    figure, axes = square("Mean probability of malignant", "Share malignant by the readers")
    diagonal(axes, 0, 1)
    for label, colour, probability in series:
        mean, share, count = reliability_bins(truth, probability).T
        low, high = _wilson(share, count)
        error = np.clip([share - low, high - share], 0, None)
        axes.errorbar(mean, share, error, color=colour, marker="o", ms=4, capsize=2)
        axes.plot([], [], color=colour, marker="o", label=label)
    legend_above(figure)
    return png(figure)


def risk(evidence: Evidence) -> bytes | None:
    """Draw the error rate of the class among the most certain nodules of protocol P.

    Returns:
        PNG, or None where there are too few nodules.
    """
    index, truth = _protocol(evidence)
    if len(index) <= FEWEST_KEPT:
        return None
    figure, axes = square("Share of nodules kept, the most certain first", "Share of these wrong")
    lines = [
        (f"{label}, entropy", colour, "-", with_entropy(probability))
        for label, colour, probability in _series(evidence, index)
    ]
    disagreement = [evidence.answered[n][1].mutual_information for n in index]
    if None not in disagreement:
        pairs = np.column_stack([_probability(evidence, index), np.array(disagreement, float)])
        lines.append(("Model, disagreement", MODEL, "--", pairs))
    for label, colour, style, answer in lines:
        kept, wrong = risk_coverage(truth, answer)[FEWEST_KEPT - 1 :].T
        axes.plot(kept, wrong, color=colour, ls=style, label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, None))
    legend(axes, "upper left")
    return png(figure)


def _protocol(evidence: Evidence) -> tuple[list[int], Array]:
    """Places of the nodules of protocol P, and which are malignant."""
    index = [n for n, (case, _) in enumerate(evidence.answered) if case.in_protocol]
    truth = [float(evidence.answered[n][0].malignant) for n in index]
    return index, np.array(truth, np.float64)


def _probability(evidence: Evidence, index: list[int]) -> Array:
    return np.array([evidence.answered[n][1].probability_malignant for n in index], np.float64)


def _series(evidence: Evidence, index: list[int]) -> list[tuple[str, str, Array]]:
    """Label, colour and probabilities of the model and, where there is one, of size only."""
    series = [("Model", MODEL, _probability(evidence, index))]
    if evidence.baseline is not None:
        by_size = evidence.baseline.probability_by_size[_BY_DIAMETER][index]
        if np.isfinite(by_size).all():
            series.append(("Size only", SIZE_ONLY, by_size))
    return series


def _wilson(share: Array, count: Array, z: float = 1.96) -> tuple[Array, Array]:
    """Wilson's interval of shares."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return middle - half, middle + half


def _curve(
    axes: Axes, truth: Array, probability: Array, look: tuple[str, str], area: Json | None
) -> None:
    if not np.isfinite(probability).all():
        return
    label, colour = look
    false_positive, true_positive, _ = roc_curve(truth, probability)
    text = f"{label}, AUC {estimate_text(area)}"
    axes.plot(false_positive, true_positive, color=colour, label=text)


def _sensitivity(truth: Array, probability: Array) -> Array:
    false_positive, true_positive, _ = roc_curve(truth, probability)
    return np.interp(_GRID, false_positive, true_positive)
