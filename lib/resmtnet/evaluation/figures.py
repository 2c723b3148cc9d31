"""The table of all figures of an evaluation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from resmtnet.evaluation import class_figures, interval_figures, metrics, size_figures
from resmtnet.evaluation.figure import BY_SIZE, Figure, OfBaseline
from resmtnet.evaluation.metric import mean_of
from resmtnet.evaluation.populations import (
    MEDIAN_3,
    RATED,
    SLICES,
    TEXTURES,
    THREE_READERS,
    Population,
)
from resmtnet.evaluation.readers import one_against_mean, texture_class_rows, texture_number
from resmtnet.types import Json


def _by_size(size: str) -> OfBaseline:
    return lambda baseline: baseline.score_by_size[size]


def _texture(name: str | None) -> float:
    return math.nan if name is None else texture_number(name)


_outside = mean_of(lambda _, distance: np.asarray(distance > 1, np.float64))
_texture_rated = Population("texture rated", lambda case: case.texture_rating is not None)
_score = partial(
    Figure,
    group="score",
    truth=lambda case: math.nan if case.score is None else case.score,
    answer=lambda answer: answer.score,
    baselines={
        **{column: _by_size(size) for column, size in BY_SIZE.items()},
        "constant": lambda baseline: baseline.constant_score,
    },
    readers=lambda case: one_against_mean(case.malignancy),
)
_mae, _kappa = metrics.mean_absolute_error, metrics.weighted_kappa
_SCORE_MAE = _score("score_mae_3_readers", "MAE", _mae, "lower", population=THREE_READERS)

_SCORE: tuple[Figure, ...] = (
    _SCORE_MAE,
    _score("score_kappa_3_readers", "Linear kappa", _kappa, "higher", population=THREE_READERS),
    _score("score_mae", "MAE", _mae, "lower", population=RATED),
    _score("score_kappa", "Linear kappa", _kappa, "higher", population=RATED),
    _score("score_mae_median_3", "MAE", _mae, "lower", population=MEDIAN_3),
)
_TEXTURE = Figure(
    "texture_balanced_accuracy",
    "Balanced accuracy of the three texture classes",
    metrics.balanced_accuracy,
    "higher",
    group="texture",
    population=_texture_rated,
    truth=lambda case: _texture(case.texture_class),
    answer=lambda answer: _texture(answer.texture_class),
    baselines={
        "constant": lambda baseline: np.array([_texture(n) for n in baseline.majority_texture])
    },
    readers=texture_class_rows,
)
_DISTANCE = Figure(
    "out_of_distribution_share",
    "Called out of distribution",
    _outside,
    "",
    group="input",
    answer=lambda answer: answer.out_of_distribution,
)
_STRATIFIED: tuple[Figure, ...] = (
    class_figures.AUC,
    class_figures.ACCURACY,
    _SCORE_MAE,
    size_figures.DIAMETER_MAE,
    size_figures.DIAMETER_BIAS,
    size_figures.VOLUME_ERROR,
    size_figures.MEAN_AXIS_MAE,
    size_figures.DICE,
    size_figures.CLICK_DICE,
)
STRATA = {"by texture": TEXTURES, "by slice thickness": SLICES}
"""Groups that repeat the main figures on parts of the nodules."""

FIGURES: tuple[Figure, ...] = (
    *class_figures.FIGURES,
    *_SCORE,
    *size_figures.FIGURES,
    _TEXTURE,
    *interval_figures.FIGURES,
    _DISTANCE,
    *(
        figure.within(stratum, group)
        for group, strata in STRATA.items()
        for figure in _STRATIFIED
        for stratum in strata
    ),
)

TITLES = {
    "class": "Class",
    "uncertainty": "Uncertainty of the class",
    "score": "Malignancy score",
    "size": "Size",
    "mask": "Mask",
    "texture": "Texture",
    "intervals": "Intervals",
    "input": "Input",
    "by texture": "By texture",
    "by slice thickness": "By slice thickness",
}
"""Headings of the groups, in the order of the report."""

GROUPS: tuple[str, ...] = tuple(TITLES)


def all_figures(document: Json) -> Json:
    """Return headline figures and details of a metrics document by name, in the report's order."""
    rows = {**document["figures"], **document["details"]}
    place = {figure.name: n for n, figure in enumerate(FIGURES)}
    return dict(sorted(rows.items(), key=lambda row: place.get(row[0], len(place))))
