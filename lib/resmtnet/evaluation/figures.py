"""THE table of figures: which statistic, of what, on which nodules, beside which baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from resmtnet.characteristics import TEXTURE_CLASS
from resmtnet.evaluation import calibration, metrics
from resmtnet.evaluation.baselines import BaselineAnswers
from resmtnet.evaluation.bootstrap import Array, Statistic
from resmtnet.evaluation.records import Case, Prediction

Value = float | tuple[float, float] | None
OfBaseline = Callable[[BaselineAnswers], Array]

CLASS_BANDS_MM = ((6, 10), (10, 15))
SIZE_BANDS_MM = ((0, 6), (6, 10), (10, 15), (15, 25), (25, math.inf))
"""By the readers' equivalent diameter, lower end included."""


@dataclass(frozen=True)
class Figure:
    """One row of the report."""

    name: str
    """Key in metrics.json."""
    label: str
    statistic: Statistic
    better: str
    """"higher", "lower", the ideal as a number, or "" where neither is better."""
    population: str
    """Key of POPULATIONS."""
    group: str
    """Heading under which it stands."""
    answer: Callable[[Prediction], Value]
    """The model's; None where it gave none, which is counted as missing."""
    truth: Callable[[Case], float] = lambda case: 0.0
    """The readers'; the figures that only describe the answers need none."""
    unit: str = "1"
    size_only: OfBaseline | None = None
    constant: OfBaseline | None = None


def _band(low: float, high: float) -> str:
    return f"< {high} mm" if not low else f">= {low} mm" if high == math.inf else f"{low}-{high} mm"


def _in_band(low: float, high: float) -> Callable[[Case], bool]:
    return lambda case: low <= case.equivalent_diameter_mm < high


def _in_protocol_band(low: float, high: float) -> Callable[[Case], bool]:
    return lambda case: case.in_protocol and low <= case.equivalent_diameter_mm < high


POPULATIONS: Mapping[str, Callable[[Case], bool]] = {
    "all": lambda case: True,
    "rated": lambda case: bool(case.malignancy),
    ">= 3 readers": lambda case: case.enough_readers,
    "protocol P": lambda case: case.in_protocol,
    "median 3": lambda case: case.enough_readers and case.median == 3,
    "texture rated": lambda case: case.texture_rating is not None,
    **{f"protocol P, {_band(*band)}": _in_protocol_band(*band) for band in CLASS_BANDS_MM},
    **{_band(*band): _in_band(*band) for band in SIZE_BANDS_MM},
}


def _share(_: Array, answer: Array) -> float:
    return float(np.mean(answer))


def _median_width(_: Array, interval: Array) -> float:
    return float(np.median(interval[:, 1] - interval[:, 0]))


def _texture(name: str | None) -> float:
    return math.nan if name is None else float(TEXTURE_CLASS.levels.index(name))


def _balanced_accuracy(malignant: Array, probability: Array) -> float:
    return metrics.balanced_accuracy(malignant, (probability >= 0.5).astype(float))


def _outside(_: Array, distance: Array) -> float:
    return float(np.mean(distance > 1))


_class = partial(
    Figure,
    group="class",
    truth=lambda case: float(case.malignant),
    answer=lambda answer: answer.probability_malignant,
    size_only=lambda baseline: baseline.size_only_probability,
    constant=lambda baseline: baseline.constant_probability,
)
_named_malignant = partial(
    Figure, group="class", answer=lambda answer: float(answer.class_name == "malignant")
)
_named_indeterminate = partial(
    Figure, group="class", answer=lambda answer: float(answer.class_name == "indeterminate")
)
_score = partial(
    Figure,
    group="score",
    truth=lambda case: math.nan if case.score is None else case.score,
    answer=lambda answer: answer.score,
    size_only=lambda baseline: baseline.size_only_score,
    constant=lambda baseline: baseline.constant_score,
)
_score_interval = partial(
    _score, answer=lambda answer: answer.score_interval, size_only=None, constant=None
)
_diameter = partial(
    Figure,
    group="size",
    truth=lambda case: case.equivalent_diameter_mm,
    answer=lambda answer: answer.equivalent_diameter_mm,
    unit="mm",
    constant=lambda baseline: baseline.constant_diameter_mm,
)
_diameter_interval = partial(
    _diameter, answer=lambda answer: answer.equivalent_diameter_interval_mm, constant=None
)
_volume = partial(
    Figure,
    group="size",
    truth=lambda case: case.volume_mm3,
    answer=lambda answer: answer.volume_mm3,
    constant=lambda baseline: np.pi / 6 * baseline.constant_diameter_mm**3,
)
_long_axis = partial(
    Figure,
    group="size",
    truth=lambda case: case.long_axis_mm,
    answer=lambda answer: answer.long_axis_mm,
    unit="mm",
    constant=lambda baseline: baseline.constant_long_axis_mm,
)
_texture_class = partial(
    Figure,
    group="texture",
    truth=lambda case: _texture(case.texture_class),
    answer=lambda answer: _texture(answer.texture_class),
    constant=lambda baseline: np.array([_texture(name) for name in baseline.majority_texture]),
)
_distance = partial(Figure, group="input", answer=lambda answer: answer.out_of_distribution)

_P, _THREE, _MEDIAN_3 = "protocol P", ">= 3 readers", "median 3"
_mae = metrics.mean_absolute_error
_D = "Equivalent diameter"

# fmt: off
FIGURES: tuple[Figure, ...] = (
    _class("auc", "AUC", metrics.auc, "higher", _P),
    *(_class(f"auc_{low}_{high}_mm", "AUC", metrics.auc, "higher", f"{_P}, {_band(low, high)}")
      for low, high in CLASS_BANDS_MM),
    _class("accuracy", "Accuracy at 0.5", metrics.accuracy, "higher", _P),
    _class("balanced_accuracy", "Balanced accuracy at 0.5", _balanced_accuracy, "higher", _P),
    _class("brier", "Brier score", metrics.brier, "lower", _P),
    _class("ece", "Expected calibration error", calibration.calibration_error, "lower", _P),
    _class("calibration_error_debiased", "Calibration error, root mean square, debiased",
           calibration.debiased_calibration_error, "lower", _P),
    _class("calibration_slope", "Calibration slope", calibration.calibration_slope, "1", _P),
    _class("calibration_intercept", "Calibration in the large (intercept)",
           calibration.calibration_intercept, "0", _P),
    _named_indeterminate("indeterminate_share", "Called indeterminate", _share, "", _P),
    _named_indeterminate("indeterminate_share_median_3", "Called indeterminate", _share, "",
                         _MEDIAN_3),
    _named_malignant("malignant_share_median_3", "Called malignant", _share, "", _MEDIAN_3),
    _class("probability_median_3", "Mean probability of malignant", _share, "", _MEDIAN_3),
    _score("score_mae_3_readers", "MAE", _mae, "lower", _THREE),
    _score("score_kappa_3_readers", "Linear kappa", metrics.weighted_kappa, "higher", _THREE),
    _score("score_mae", "MAE", _mae, "lower", "rated"),
    _score("score_kappa", "Linear kappa", metrics.weighted_kappa, "higher", "rated"),
    _score("score_mae_median_3", "MAE", _mae, "lower", _MEDIAN_3),
    _score_interval("score_coverage_90", "Coverage of the 90% interval", metrics.coverage, "0.9",
                    "rated"),
    _score_interval("score_interval_width", "Median width of the 90% interval", _median_width,
                    "lower", "rated"),
    _diameter("diameter_mae_mm", f"{_D}, MAE", _mae, "lower", "all"),
    *(_diameter(f"diameter_mae_{low}_{'up' if high == math.inf else high}_mm", f"{_D}, MAE", _mae,
                "lower", _band(low, high)) for low, high in SIZE_BANDS_MM),
    _diameter("diameter_bias_mm", f"{_D}, bias", metrics.bias, "0", "all"),
    _diameter("diameter_loa_low_mm", f"{_D}, lower limit of agreement",
              metrics.lower_limit_of_agreement, "0", "all"),
    _diameter("diameter_loa_high_mm", f"{_D}, upper limit of agreement",
              metrics.upper_limit_of_agreement, "0", "all"),
    _volume("volume_median_relative_error", "Volume, median relative error",
            metrics.median_relative_error, "lower", "all"),
    _long_axis("long_axis_mae_mm", "Long axis, MAE", _mae, "lower", "all"),
    _long_axis("long_axis_bias_mm", "Long axis, bias", metrics.bias, "0", "all"),
    _diameter_interval("diameter_coverage_90", f"{_D}, coverage of the 90% interval",
                       metrics.coverage, "0.9", "all", unit="1"),
    _diameter_interval("diameter_interval_width_mm", f"{_D}, median width of the 90% interval",
                       _median_width, "lower", "all"),
    _texture_class("texture_balanced_accuracy", "Balanced accuracy of the three texture classes",
                   metrics.balanced_accuracy, "higher", "texture rated"),
    _distance("out_of_distribution_share", "Called out of distribution", _outside, "", "all"),
)
# fmt: on
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(figure.group for figure in FIGURES))
