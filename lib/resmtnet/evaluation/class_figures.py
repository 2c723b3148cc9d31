"""Figures of the class: discrimination, calibration, and detection of its own errors."""

from __future__ import annotations

from functools import partial

from resmtnet.evaluation import calibration, metrics
from resmtnet.evaluation.figure import BY_SIZE, Figure, OfBaseline, given
from resmtnet.evaluation.metric import mean_of
from resmtnet.evaluation.populations import CLASS_BANDS, DIAGNOSED, MEDIAN_3, PROTOCOL
from resmtnet.evaluation.readers import one_against_median_class
from resmtnet.evaluation.uncertainty import accuracy_gain, error_detection_auc, with_entropy
from resmtnet.types import Array

share = mean_of(lambda _, answer: answer)
"""The mean of the answers."""


def _balanced_accuracy(malignant: Array, probability: Array) -> float:
    return metrics.balanced_accuracy(malignant, (probability >= 0.5).astype(float))


def _by_size(size: str) -> OfBaseline:
    return lambda baseline: baseline.probability_by_size[size]


def _unsure_by_size(size: str) -> OfBaseline:
    return lambda baseline: with_entropy(baseline.probability_by_size[size])


_SIZE_ONLY = {column: _by_size(size) for column, size in BY_SIZE.items()}
_ranking = partial(
    Figure,
    group="class",
    population=PROTOCOL,
    truth=lambda case: float(case.malignant),
    answer=lambda answer: answer.probability_malignant,
    baselines=_SIZE_ONLY,
)
"""A constant does not rank; cross-fitted, it would even rank against the truth."""
_class = partial(
    _ranking,
    baselines={**_SIZE_ONLY, "constant": lambda baseline: baseline.constant_probability},
)
_named_malignant = partial(
    Figure, group="class", answer=lambda answer: float(answer.class_name == "malignant")
)
_named_indeterminate = partial(
    Figure, group="class", answer=lambda answer: float(answer.class_name == "indeterminate")
)
_by_entropy = partial(
    Figure,
    group="uncertainty",
    population=PROTOCOL,
    better="higher",
    truth=lambda case: float(case.malignant),
    answer=lambda answer: (answer.probability_malignant, given(answer.entropy)),
    baselines={column: _unsure_by_size(size) for column, size in BY_SIZE.items()},
)
_by_disagreement = partial(
    _by_entropy,
    answer=lambda answer: (answer.probability_malignant, given(answer.mutual_information)),
    baselines={},
)

AUC = _ranking("auc", "AUC", metrics.auc, "higher", readers=one_against_median_class)
ACCURACY = _class("accuracy", "Accuracy at 0.5", metrics.accuracy, "higher")
_DETECTION, _GAIN = "Error detection, AUC of the ", "Gain in accuracy without the 20% of most "

FIGURES: tuple[Figure, ...] = (
    AUC,
    *(AUC.within(band) for band in CLASS_BANDS),
    _ranking(
        "pathology_auc",
        "AUC against pathology or follow-up, largest nodule of each patient",
        metrics.auc,
        "higher",
        population=DIAGNOSED,
        truth=lambda case: float(case.diagnosis == "malignant"),
    ),
    ACCURACY,
    _class("balanced_accuracy", "Balanced accuracy at 0.5", _balanced_accuracy, "higher"),
    _class("brier", "Brier score", metrics.brier, "lower"),
    _class("ece", "Expected calibration error", calibration.calibration_error, "lower"),
    _class(
        "calibration_error_debiased",
        "Calibration error, root mean square, debiased",
        calibration.debiased_calibration_error,
        "lower",
    ),
    _ranking("calibration_slope", "Calibration slope", calibration.calibration_slope, "1"),
    _class(
        "calibration_intercept",
        "Calibration in the large (intercept)",
        calibration.calibration_intercept,
        "0",
    ),
    _named_indeterminate(
        "indeterminate_share", "Called indeterminate", share, "", population=PROTOCOL
    ),
    _named_indeterminate(
        "indeterminate_share_median_3", "Called indeterminate", share, "", population=MEDIAN_3
    ),
    _named_malignant(
        "malignant_share_median_3", "Called malignant", share, "", population=MEDIAN_3
    ),
    _class(
        "probability_median_3",
        "Mean probability of malignant",
        share,
        "",
        population=MEDIAN_3,
    ),
    _by_entropy("error_detection_entropy", f"{_DETECTION}entropy", error_detection_auc),
    _by_disagreement(
        "error_detection_mutual_information", f"{_DETECTION}disagreement", error_detection_auc
    ),
    _by_entropy("accuracy_gain_entropy", f"{_GAIN}entropy", accuracy_gain),
    _by_disagreement("accuracy_gain_mutual_information", f"{_GAIN}disagreement", accuracy_gain),
)
"""Of class and uncertainty."""
