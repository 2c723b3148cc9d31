"""The report's plots, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from resmtnet.evaluation import metrics
from resmtnet.evaluation.baselines import Baselines
from resmtnet.evaluation.bootstrap import Array, BootstrapConfig, Resamples
from resmtnet.evaluation.calibration import reliability
from resmtnet.evaluation.card import estimate_text
from resmtnet.evaluation.records import Answered, Case
from resmtnet.findings import Json

MODEL, SIZE_ONLY, GUIDE = "#1f5fa8", "#b35900", "#888888"
BAND_DRAWS = 500
"""Draws for the band around a ROC; enough for a picture."""
_GRID = np.linspace(0, 1, 101)


def roc(
    answered: Sequence[Answered], baselines: Baselines | None, row: Json, config: BootstrapConfig
) -> bytes | None:
    """Draw the ROC on protocol P with its pointwise interval, beside size only.

    Args:
        answered: all nodules.
        baselines: None draws the model alone.
        row: figure "auc" of the document.
        config: of the bootstrap.

    Returns:
        PNG, or None where a class is missing.
    """
    chosen = _protocol(answered)
    truth = np.array([case.malignant for case, _ in chosen], float)
    if not 0 < truth.sum() < len(truth):
        return None
    probability = np.array([answer.probability_malignant for _, answer in chosen])
    figure, axes = _square("1 - specificity", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=GUIDE, lw=0.8, ls=":")
    if baselines is not None:
        by_size = baselines.predict(_cases(chosen)).size_only_probability
        _curve(axes, truth, by_size, "Size only", row["size_only"])
    _curve(axes, truth, probability, "Model", row["model"])
    draws = Resamples([case.patient_id for case, _ in chosen], config).draws[:BAND_DRAWS]
    curves = [_sensitivity(truth[i], probability[i]) for i in draws if 0 < truth[i].sum() < len(i)]
    if curves:
        tail = (1 - config.confidence) / 2
        low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
        axes.fill_between(_GRID, low, high, color=MODEL, alpha=0.15, lw=0)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return _png(figure)


def calibration(answered: Sequence[Answered], baselines: Baselines | None) -> bytes | None:
    """Draw the reliability curve on protocol P over equal-mass bins, beside size only.

    Returns:
        PNG, or None without a nodule of protocol P.
    """
    chosen = _protocol(answered)
    if not chosen:
        return None
    truth = np.array([case.malignant for case, _ in chosen], float)
    figure, axes = _square("Mean probability of malignant", "Share malignant by the readers")
    axes.plot([0, 1], [0, 1], color=GUIDE, lw=0.8, ls=":")
    series = [("Model", np.array([answer.probability_malignant for _, answer in chosen]))]
    if baselines is not None:
        series.append(("Size only", baselines.predict(_cases(chosen)).size_only_probability))
    for label, probability in series:
        mean, share, count = reliability(truth, probability).T
        low, high = _wilson(share, count)
        error = np.clip([share - low, high - share], 0, None)
        axes.errorbar(mean, share, error, color=_colour(label), marker="o", ms=4, capsize=2)
        axes.plot([], [], color=_colour(label), marker="o", label=label)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return _png(figure)


def scores(answered: Sequence[Answered]) -> bytes | None:
    """Draw the model's score against the readers' mean.

    Returns:
        PNG, or None where nothing was rated.
    """
    pairs = [(case.score, answer.score) for case, answer in answered if case.score is not None]
    if not pairs:
        return None
    truth, given = np.array(pairs, float).T
    figure, axes = _square("Readers' mean malignancy", "Model's score")
    axes.plot([1, 5], [1, 5], color=GUIDE, lw=0.8, ls=":")
    axes.scatter(truth, given, s=10, color=MODEL, alpha=0.4, lw=0)
    axes.set(xlim=(0.9, 5.1), ylim=(0.9, 5.1))
    return _png(figure)


def sizes(answered: Sequence[Answered]) -> bytes | None:
    """Draw the Bland-Altman plot of the equivalent diameter.

    Returns:
        PNG, or None where fewer than two were measured.
    """
    pairs = [
        (case.equivalent_diameter_mm, answer.equivalent_diameter_mm)
        for case, answer in answered
        if answer.equivalent_diameter_mm is not None
    ]
    if len(pairs) < 2:
        return None
    truth, given = np.array(pairs, float).T
    figure, axes = _square("Mean of model and readers, mm", "Model less readers, mm")
    axes.scatter((truth + given) / 2, given - truth, s=10, color=MODEL, alpha=0.4, lw=0)
    axes.axhline(0, color=GUIDE, lw=0.8, ls=":")
    for statistic, style in (
        (metrics.bias, "-"),
        (metrics.lower_limit_of_agreement, "--"),
        (metrics.upper_limit_of_agreement, "--"),
    ):
        value = statistic(truth, given)
        axes.axhline(value, color=SIZE_ONLY, lw=1, ls=style)
        axes.annotate(
            f"{value:+.2f}",
            (1, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
    return _png(figure)


def _protocol(answered: Sequence[Answered]) -> list[Answered]:
    return [(case, answer) for case, answer in answered if case.in_protocol]


def _cases(answered: Sequence[Answered]) -> list[Case]:
    return [case for case, _ in answered]


def _colour(label: str) -> str:
    return MODEL if label == "Model" else SIZE_ONLY


def _wilson(share: Array, count: Array, z: float = 1.96) -> tuple[Array, Array]:
    """Wilson's interval of shares."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return middle - half, middle + half


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _curve(axes: Axes, truth: Array, probability: Array, label: str, area: Json) -> None:
    false_positive, true_positive, _ = roc_curve(truth, probability)
    text = f"{label}, AUC {estimate_text(area)}"
    axes.plot(false_positive, true_positive, color=_colour(label), label=text)


def _sensitivity(truth: Array, probability: Array) -> Array:
    false_positive, true_positive, _ = roc_curve(truth, probability)
    return np.interp(_GRID, false_positive, true_positive)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=110, format="png", metadata={"Software": None})
    return buffer.getvalue()
