"""Figures of the 90% intervals: their coverage and their width."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from resmtnet.evaluation import metrics
from resmtnet.evaluation.figure import Figure
from resmtnet.evaluation.populations import RATED, SIZE_BANDS, TEXTURES
from resmtnet.types import Array

NOMINAL = 0.9


def _median_width(_: Array, interval: Array) -> float:
    return float(np.median(interval[:, 1] - interval[:, 0]))


_score = partial(
    Figure,
    group="intervals",
    population=RATED,
    truth=lambda case: math.nan if case.score is None else case.score,
    answer=lambda answer: answer.score_interval,
)
_diameter = partial(
    Figure,
    group="intervals",
    truth=lambda case: case.equivalent_diameter_mm,
    answer=lambda answer: answer.equivalent_diameter_interval_mm,
)
_long_axis = partial(
    Figure,
    group="intervals",
    truth=lambda case: case.long_axis_mm,
    answer=lambda answer: answer.long_axis_interval_mm,
)

_QUANTITIES = (
    (_score, "score", "Malignancy score", "1"),
    (_diameter, "diameter", "Equivalent diameter", "mm"),
    (_long_axis, "long_axis", "Long axis", "mm"),
)
_COVERAGES = tuple(
    of(
        f"{name}_coverage_90",
        f"{label}, coverage of the 90% interval",
        metrics.coverage,
        str(NOMINAL),
        expected_share=NOMINAL,
    )
    for of, name, label, _ in _QUANTITIES
)
_WIDTHS = tuple(
    of(
        f"{name}_interval_width{'' if unit == '1' else '_mm'}",
        f"{label}, median width of the 90% interval",
        _median_width,
        "lower",
        unit=unit,
    )
    for of, name, label, unit in _QUANTITIES
)

FIGURES: tuple[Figure, ...] = (
    *_COVERAGES,
    *_WIDTHS,
    *(coverage.within(stratum) for coverage in _COVERAGES for stratum in (*SIZE_BANDS, *TEXTURES)),
)
"""Overall, by size band and by texture."""
