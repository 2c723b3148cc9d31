"""Figures of the size: diameter, volume, axes, size class and mask."""

from __future__ import annotations

from functools import partial

import numpy as np

from resmtnet.evaluation import metrics
from resmtnet.evaluation.baselines import BaselineAnswers
from resmtnet.evaluation.class_figures import share
from resmtnet.evaluation.figure import Figure, OfBaseline
from resmtnet.evaluation.populations import SIZE_BANDS, SUB_SOLID, THREE_READERS
from resmtnet.evaluation.readers import dice_row, one_against_mean, size_bin_rows
from resmtnet.evaluation.records import Case, Prediction, size_bin
from resmtnet.types import Array


def _constant(name: str) -> dict[str, OfBaseline]:
    return {"constant": lambda baseline: baseline.constant_mm[name]}


def _constant_volume(baseline: BaselineAnswers) -> Array:
    return np.asarray(np.pi / 6 * baseline.constant_mm["equivalent_diameter_mm"] ** 3, np.float64)


def _bin_of_case(case: Case) -> float:
    return float(size_bin(case.mean_axis_mm)) if np.isfinite(case.mean_axis_mm) else np.nan


def _bin_of_answer(answer: Prediction) -> float | None:
    return None if answer.mean_diameter_mm is None else float(size_bin(answer.mean_diameter_mm))


_size = partial(Figure, group="size", unit="mm")
_diameter = partial(
    _size,
    truth=lambda case: case.equivalent_diameter_mm,
    answer=lambda answer: answer.equivalent_diameter_mm,
    baselines=_constant("equivalent_diameter_mm"),
)
_diameter_beside_readers = partial(
    _diameter, readers=lambda case: one_against_mean(case.reader_equivalent_diameters_mm)
)
_long_axis = partial(
    _size,
    truth=lambda case: case.long_axis_mm,
    answer=lambda answer: answer.long_axis_mm,
    baselines=_constant("long_axis_mm"),
)
_short_axis = partial(
    _size,
    truth=lambda case: case.short_axis_mm,
    answer=lambda answer: answer.short_axis_mm,
    baselines=_constant("short_axis_mm"),
)
_mean_axis = partial(
    _size,
    truth=lambda case: case.mean_axis_mm,
    answer=lambda answer: answer.mean_diameter_mm,
    baselines=_constant("mean_axis_mm"),
)

_mae, _D = metrics.mean_absolute_error, "Equivalent diameter"
DIAMETER_MAE = _diameter_beside_readers("diameter_mae_mm", f"{_D}, MAE", _mae, "lower")
DIAMETER_BIAS = _diameter("diameter_bias_mm", f"{_D}, bias", metrics.bias, "0")
VOLUME_ERROR = Figure(
    "volume_median_relative_error",
    "Volume, median relative error",
    metrics.median_relative_error,
    "lower",
    group="size",
    truth=lambda case: case.volume_mm3,
    answer=lambda answer: answer.volume_mm3,
    baselines={"constant": _constant_volume},
    readers=lambda case: one_against_mean(case.reader_volumes_mm3),
)
MEAN_AXIS_MAE = _mean_axis(
    "mean_axis_mae_mm",
    "Mean of long and short axis, MAE",
    _mae,
    "lower",
    readers=lambda case: one_against_mean(case.reader_mean_axes_mm),
)
DICE = Figure(
    "mask_dice",
    "Mask, Dice with what at least half of the readers marked",
    share,
    "higher",
    group="mask",
    population=THREE_READERS,
    answer=lambda answer: answer.mask_dice,
    readers=dice_row,
)
CLICK_DICE = Figure(
    "click_dice",
    "Mask, Dice between those of several clicks on the nodule",
    share,
    "higher",
    group="mask",
    answer=lambda answer: answer.click_dice,
    optional=True,
)

FIGURES: tuple[Figure, ...] = (
    DIAMETER_MAE,
    *(DIAMETER_MAE.within(band) for band in SIZE_BANDS),
    _diameter_beside_readers(
        "diameter_mae_sub_solid_mm", f"{_D}, MAE", _mae, "lower", population=SUB_SOLID
    ),
    DIAMETER_BIAS,
    *(DIAMETER_BIAS.within(band) for band in SIZE_BANDS),
    _diameter_beside_readers(
        "diameter_loa_low_mm",
        f"{_D}, lower limit of agreement",
        metrics.lower_limit_of_agreement,
        "0",
    ),
    _diameter_beside_readers(
        "diameter_loa_high_mm",
        f"{_D}, upper limit of agreement",
        metrics.upper_limit_of_agreement,
        "0",
    ),
    VOLUME_ERROR,
    MEAN_AXIS_MAE,
    _mean_axis("mean_axis_bias_mm", "Mean of long and short axis, bias", metrics.bias, "0"),
    _long_axis(
        "long_axis_mae_mm",
        "Long axis, MAE",
        _mae,
        "lower",
        readers=lambda case: one_against_mean(case.reader_long_axes_mm),
    ),
    _long_axis("long_axis_bias_mm", "Long axis, bias", metrics.bias, "0"),
    _short_axis(
        "short_axis_mae_mm",
        "Short axis, MAE",
        _mae,
        "lower",
        readers=lambda case: one_against_mean(case.reader_short_axes_mm),
    ),
    _short_axis("short_axis_bias_mm", "Short axis, bias", metrics.bias, "0"),
    Figure(
        "size_bin_kappa",
        "Lung-RADS size class (< 6, 6-8, 8-15, >= 15 mm), kappa",
        metrics.kappa,
        "higher",
        group="size",
        truth=_bin_of_case,
        answer=_bin_of_answer,
        readers=size_bin_rows,
    ),
    DICE,
    CLICK_DICE,
    *(CLICK_DICE.within(band) for band in SIZE_BANDS),
)
"""Of size and mask."""
