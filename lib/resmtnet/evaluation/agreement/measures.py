"""What is compared between a reading and the answer that the reader was correcting."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resmtnet.characteristics import class_of_rating
from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.evaluation.calibration import (
    calibration_error,
    calibration_intercept,
    calibration_slope,
)
from resmtnet.evaluation.metric import Statistic
from resmtnet.findings import finite
from resmtnet.readings.record import Reading
from resmtnet.types import Json

Value = Callable[[Reading], float | None]
BENIGN_OR_MALIGNANT = {"benign": 0.0, "malignant": 1.0}


@dataclass(frozen=True)
class AgreementMeasure:
    """One figure of agreement."""

    name: str
    """Key in the document."""
    label: str
    unit: str
    better: str
    """"higher", "lower", or the ideal as a number."""
    statistic: Statistic
    """Of what the readers said, and what the model answered."""
    said: Value
    """By the reader; None where that was not said."""
    answered: Value
    """By the model; None where it is not in the answer."""
    between_readers: bool = True
    """Whether it makes sense of two readers as well."""
    by_part: bool = False
    """Whether it is given by reader, model version and period too."""


def number(finding: Json, *path: str) -> float | None:
    """Return the finite number at a place of a finding, None where there is none.

    >>> number({"size": {"long_axis_mm": 8}}, "size", "long_axis_mm"), number({}, "size")
    (8.0, None)
    """
    found: object = finding
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return float(found) if abs(found) <= sys.float_info.max else None


def _of_answer(*path: str) -> Value:
    return lambda reading: reading.answered and number(reading.answered.finding, *path)  # type: ignore[return-value]


def said_class(reading: Reading) -> float | None:
    """Return 1 for malignant, 0 for benign, None where the reader did not decide.

    A reader who gave a rating but no class decides by it: 4 and 5 are malignant, 1 and 2 benign;
    not where the evidence is more than an impression.
    """
    if reading.class_name is not None:
        return BENIGN_OR_MALIGNANT.get(reading.class_name)
    rating = reading.malignancy
    if rating is None or reading.evidence != "impression":
        return None
    return BENIGN_OR_MALIGNANT.get(class_of_rating(rating))


def said_rating(reading: Reading) -> float | None:
    """Return the malignancy rating of what the reader takes for a nodule."""
    if reading.malignancy is None or reading.class_name == "not_a_nodule":
        return None
    return float(reading.malignancy)


def _said_size(name: str) -> Value:
    return lambda reading: reading.sizes.get(name)


SCORE, PROBABILITY = (
    _of_answer("malignancy", "score"),
    _of_answer("class", "probabilities", "malignant"),
)


def _rated(
    name: str, label: str, better: str, statistic: Statistic, **more: bool
) -> AgreementMeasure:
    return AgreementMeasure(name, label, "1", better, statistic, said_rating, SCORE, **more)


def _classed(
    name: str, label: str, better: str, statistic: Statistic, **more: bool
) -> AgreementMeasure:
    return AgreementMeasure(
        name, label, "1", better, statistic, said_class, PROBABILITY, between_readers=False, **more
    )


def _sized(size: str) -> tuple[AgreementMeasure, ...]:
    said, answered = _said_size(size), _of_answer("size", size)
    label, key = size.removesuffix("_mm").replace("_", " "), size.removesuffix("_mm")
    by_part = size == "long_axis_mm"

    def measure(
        name: str, what: str, better: str, statistic: Statistic, *, between: bool = True
    ) -> AgreementMeasure:
        return AgreementMeasure(
            f"{key}_{name}_mm",
            f"{label.capitalize()}: {what}",
            "mm",
            better,
            statistic,
            said,
            answered,
            between,
            by_part,
        )

    return (
        measure("mae", "mean absolute difference", "lower", metrics.mean_absolute_error),
        measure("bias", "bias, model minus reader", "0", metrics.bias, between=False),
        measure("lower_limit", "95% limit below", "0", metrics.lower_limit_of_agreement),
        measure("upper_limit", "95% limit above", "0", metrics.upper_limit_of_agreement),
    )


SIZES = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm", "equivalent_diameter_mm")

MEASURES: tuple[AgreementMeasure, ...] = (
    _rated(
        "rating_weighted_kappa",
        "Malignancy rating: weighted kappa",
        "higher",
        metrics.weighted_kappa,
        by_part=True,
    ),
    _rated(
        "score_mae",
        "Malignancy score: mean absolute difference",
        "lower",
        metrics.mean_absolute_error,
        by_part=True,
    ),
    _rated(
        "score_bias",
        "Malignancy score: bias, model minus reader",
        "0",
        metrics.bias,
        between_readers=False,
        by_part=True,
    ),
    *(measure for size in SIZES for measure in _sized(size)),
    AgreementMeasure(
        "volume_median_relative_error",
        "Volume: median relative difference",
        "1",
        "lower",
        metrics.median_relative_error,
        _said_size("volume_mm3"),
        _of_answer("size", "volume_mm3"),
    ),
    _classed("class_auc", "Class: AUC of the probability", "higher", metrics.auc),
    _classed("class_accuracy", "Class: same side of 0.5", "higher", metrics.accuracy, by_part=True),
    _classed("class_brier", "Class: Brier score", "lower", metrics.brier),
    _classed("class_calibration_error", "Class: calibration error", "lower", calibration_error),
    _classed("class_calibration_slope", "Class: calibration slope", "1", calibration_slope),
    _classed(
        "class_calibration_intercept",
        "Class: calibration in the large (intercept)",
        "0",
        calibration_intercept,
    ),
)
"""In the order of the page."""


def patient_of(reading: Reading) -> str:
    """Return the patient, else the image, which then is a patient of its own."""
    return reading.study_patient or f"image {reading.image}"


def estimate_of(
    measure: AgreementMeasure, rows: Sequence[tuple[float, float, str]], config: BootstrapConfig
) -> Json:
    """Return a figure of rows of truth, answer and patient, with its interval."""
    if not rows:
        return {"value": None, "low": None, "high": None}
    truth, answer = np.array([row[:2] for row in rows], np.float64).T
    resamples = Resamples([patient for *_, patient in rows], config)
    estimate = resamples.replicate(measure.statistic, truth, answer).estimate(config.confidence)
    return {name: finite(value) for name, value in estimate.to_json().items()}
