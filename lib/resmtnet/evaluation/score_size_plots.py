"""Plots of score and size, as PNG: scatter against the readers, and Bland-Altman."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resmtnet.evaluation import metrics
from resmtnet.evaluation.canvas import (
    GUIDE,
    MODEL,
    READERS,
    SIZE_ONLY,
    diagonal,
    legend_above,
    png,
    square,
)
from resmtnet.evaluation.readers import OfReaders, one_against_mean
from resmtnet.evaluation.records import Answered, Case, Prediction
from resmtnet.types import Array


@dataclass(frozen=True)
class Quantity:
    """What is compared with the readers."""

    name: str
    """With its unit."""
    truth: Callable[[Case], float | None]
    answer: Callable[[Prediction], float | None]
    readers: OfReaders


SCORE = Quantity(
    "malignancy score",
    lambda case: case.score,
    lambda answer: answer.score,
    lambda case: one_against_mean(case.malignancy),
)
DIAMETER = Quantity(
    "equivalent diameter, mm",
    lambda case: case.equivalent_diameter_mm,
    lambda answer: answer.equivalent_diameter_mm,
    lambda case: one_against_mean(case.reader_equivalent_diameters_mm),
)


def scatter(quantity: Quantity, answered: Sequence[Answered]) -> bytes | None:
    """Draw the model's answers against the readers' mean.

    Returns:
        PNG, or None where nothing can be compared.
    """
    truth, given = _pairs(quantity, answered)
    if not len(truth):
        return None
    figure, axes = square(f"Readers' mean {quantity.name}", f"Model's {quantity.name}")
    values = np.concatenate([truth, given])
    diagonal(axes, float(values.min()), float(values.max()))
    axes.scatter(truth, given, s=10, color=MODEL, alpha=0.4, lw=0)
    axes.set_aspect("equal", "datalim")
    return png(figure)


def differences(quantity: Quantity, answered: Sequence[Answered]) -> bytes | None:
    """Draw the model's errors, with the limits within which one reader agrees with the others.

    Returns:
        PNG, or None where fewer than two nodules can be compared.
    """
    return bland_altman(
        quantity.name, *_pairs(quantity, answered), _readers_limits(quantity, answered)
    )


def bland_altman(
    name: str, truth: Array, given: Array, spread: tuple[float, float] | None
) -> bytes | None:
    """Draw a Bland-Altman plot of any quantity.

    Args:
        name: of the quantity, with its unit.
        truth: [N] of the readers.
        given: [N] of the model.
        spread: limits within which one reader agrees with the others, if that is known.

    Returns:
        PNG, or None where N is below 2.
    """
    if len(truth) < 2:
        return None
    figure, axes = square(f"Mean of model and readers: {name}", "Model less readers")
    if spread is not None:
        axes.axhspan(*spread, color=READERS, alpha=0.12, lw=0)
        label = f"One reader less the others, 95%: {spread[0]:+.2f} to {spread[1]:+.2f}"
        axes.fill_between([], [], color=READERS, alpha=0.25, label=label)
    axes.scatter((truth + given) / 2, given - truth, s=10, color=MODEL, alpha=0.4, lw=0)
    axes.axhline(0, color=GUIDE, lw=0.8, ls=":")
    low = metrics.lower_limit_of_agreement(truth, given)
    high = metrics.upper_limit_of_agreement(truth, given)
    axes.axhline(metrics.bias(truth, given), color=SIZE_ONLY, lw=1)
    for limit in (low, high):
        axes.axhline(limit, color=SIZE_ONLY, lw=1, ls="--")
    text = f"Model: bias {metrics.bias(truth, given):+.2f}, 95% {low:+.2f} to {high:+.2f}"
    axes.plot([], [], color=SIZE_ONLY, ls="--", label=text)
    legend_above(figure)
    return png(figure)


def _pairs(quantity: Quantity, answered: Sequence[Answered]) -> tuple[Array, Array]:
    pairs = [(quantity.truth(case), quantity.answer(answer)) for case, answer in answered]
    values = np.array([(t, a) for t, a in pairs if t is not None and a is not None], np.float64)
    values = values.reshape(-1, 2)
    truth, given = values[np.isfinite(values).all(1)].T
    return truth, given


def _readers_limits(quantity: Quantity, answered: Sequence[Answered]) -> tuple[float, float] | None:
    rows = [row for case, _ in answered for row in quantity.readers(case)]
    if len(rows) < 2:
        return None
    truth, answer = np.array(rows, np.float64).T
    return (
        metrics.lower_limit_of_agreement(truth, answer),
        metrics.upper_limit_of_agreement(truth, answer),
    )
