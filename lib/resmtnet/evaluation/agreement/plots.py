"""Plots of agreement, as PNG: over time, and each quantity in one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from resmtnet.evaluation import metrics
from resmtnet.evaluation.agreement.document import LEAST_READINGS, pairs, reader_pairs
from resmtnet.evaluation.agreement.measures import MEASURES, AgreementMeasure
from resmtnet.evaluation.canvas import MODEL, READERS, SIZE_ONLY, legend, png, square
from resmtnet.evaluation.plots import reliability_curves
from resmtnet.evaluation.score_size_plots import bland_altman
from resmtnet.readings.record import Reading
from resmtnet.types import Json

COLOURS = {"blinded": MODEL, "unblinded": SIZE_ONLY, "unknown": READERS}
_BY_NAME = {measure.name: measure for measure in MEASURES}


def over_time(groups: Sequence[Json], figure_name: str) -> bytes | None:
    """Draw one figure by period, a line for each answer; only of impressions.

    Returns:
        PNG, or None where no period has a figure.
    """
    series: dict[str, dict[str, Json]] = {}
    periods: list[str] = []
    for group in groups:
        if group["evidence"] == "impression":
            periods = sorted({*periods, *group["by_period"]})
            entries = {key: part[figure_name] for key, part in group["by_period"].items()}
            given = {key: e for key, e in entries.items() if e["model"]["value"] is not None}
            if given:
                series[group["answer"]] = given
    if not series:
        return None
    measure = _BY_NAME[figure_name]
    figure, axes = square("", measure.label if measure.unit == "1" else f"{measure.label}, mm")
    for n, (answer, given) in enumerate(series.items()):
        places = np.array([periods.index(period) for period in given]) + 0.08 * n
        values = np.array([entry["model"]["value"] for entry in given.values()])
        bounds = [
            [
                abs((e["model"][end] if e["model"][end] is not None else v) - v)
                for end in ("low", "high")
            ]
            for e, v in zip(given.values(), values, strict=True)
        ]
        axes.errorbar(
            places, values, np.array(bounds).T, color=COLOURS[answer], marker="o", ms=4, capsize=2
        )
        axes.plot([], [], color=COLOURS[answer], marker="o", label=answer)
    axes.set_xlim(-0.5, len(periods) - 0.5)
    _ticks(axes, periods)
    legend(axes)
    return png(figure)


def count_over_time(counts: Mapping[str, int]) -> bytes:
    """Draw the number of readings up to the end of each period."""
    figure, axes = square("", "Readings that stand, in all")
    periods = list(counts)
    axes.step(range(len(periods)), np.cumsum(list(counts.values())), where="mid", color=MODEL)
    axes.plot(range(len(periods)), np.cumsum(list(counts.values())), "o", ms=4, color=MODEL)
    axes.set_ylim(0, None)
    _ticks(axes, periods)
    return png(figure)


def differences(name: str, label: str, members: Sequence[Reading]) -> bytes | None:
    """Draw the differences of a measured quantity.

    Args:
        name: of a measure of this quantity.
        label: of the quantity, with its unit.
        members: readings of one group.

    Returns:
        PNG, or None where there are fewer than LEAST_READINGS.
    """
    measure = _BY_NAME[name]
    rows = pairs(measure, members)
    if len(rows) < LEAST_READINGS:
        return None
    said, answered = np.array([row[:2] for row in rows], np.float64).T
    return bland_altman(label, said, answered, _spread(measure, members))


def class_calibration(members: Sequence[Reading]) -> bytes | None:
    """Draw the calibration of the class probability.

    Returns:
        PNG, or None where there are fewer than LEAST_READINGS.
    """
    rows = pairs(_BY_NAME["class_brier"], members)
    if len(rows) < LEAST_READINGS:
        return None
    said, answered = np.array([row[:2] for row in rows], np.float64).T
    return reliability_curves(said, [("Model", MODEL, answered)])


def _spread(measure: AgreementMeasure, members: Sequence[Reading]) -> tuple[float, float] | None:
    between = reader_pairs(measure, members)
    if len(between) // 2 < LEAST_READINGS:
        return None
    one, other = np.array([row[:2] for row in between], np.float64).T
    return (
        metrics.lower_limit_of_agreement(one, other),
        metrics.upper_limit_of_agreement(one, other),
    )


def _ticks(axes: Axes, periods: Sequence[str]) -> None:
    """Name at most a dozen periods."""
    step = -(-len(periods) // 12)
    axes.set_xticks(range(0, len(periods), step), periods[::step], rotation=60)
