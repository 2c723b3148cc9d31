"""From raw outputs and a measured mask to calibrated answers: pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resmtnet.calibration import Calibration
from resmtnet.characteristics import CLASS, SIZES, TASKS, TEXTURE, TEXTURE_CLASS
from resmtnet.ct.measure import Measurement
from resmtnet.findings import Characteristic, Interval, Malignancy, Size, Uncertainty
from resmtnet.inference import Observation
from resmtnet.network.uncertainty import entropy, mutual_information, softmax

Array = NDArray[np.float64]

DISAGREEMENT = 0.3
"""Relative difference of measured and regressed diameter that is told to the reader."""
VOLUME_EXPONENT = 3.0
"""A relative error of the diameter is three times as large in the volume."""


def class_name(probability_malignant: float, calibration: Calibration, *, doubtful: bool) -> str:
    """Name the class, or "indeterminate" where neither class reaches the threshold.

    Args:
        probability_malignant: calibrated.
        calibration: holds the threshold.
        doubtful: the input is out of distribution, or shows no nodule.
    """
    if (
        doubtful
        or max(probability_malignant, 1 - probability_malignant) < calibration.decision_threshold
    ):
        return "indeterminate"
    return "malignant" if probability_malignant >= 0.5 else "benign"


def malignancy(observation: Observation, calibration: Calibration) -> Malignancy:
    """Return the readers' rating: its distribution, mean and 90% interval."""
    shares = softmax(observation.outputs["malignancy"])
    score, deviation = score_and_deviation(shares)
    half = calibration.score_quantile * deviation
    low, high = max(1.0, score - half), min(5.0, score + half)
    return Malignancy(score, (low, high), tuple(float(p) for p in shares))


def score_and_deviation(shares: Array) -> tuple[float, float]:
    """Return mean and standard deviation of ratings 1..n with the given shares.

    >>> score_and_deviation(np.array([0.5, 0.0, 0.5]))
    (2.0, 1.0)
    """
    levels = np.arange(1, len(shares) + 1)
    mean = float(shares @ levels)
    variance = float(shares @ (levels - mean) ** 2)
    return mean, max(0.0, variance) ** 0.5


def uncertainty(observation: Observation, calibration: Calibration) -> Uncertainty:
    """Return entropy and disagreement of the class, and the distance from the training nodules."""
    views = calibration.probability_malignant(observation.class_logits)
    pairs = np.stack([1 - views, views], 1)
    return Uncertainty(
        entropy=float(entropy(pairs.mean(0))),
        mutual_information=mutual_information(pairs),
        out_of_distribution=calibration.out_of_distribution(observation.embedding.astype(float)),
    )


def characteristics(observation: Observation) -> dict[str, Characteristic]:
    """Return the further ratings; texture carries the three classes and the mean rating."""
    found: dict[str, Characteristic] = {}
    for task in TASKS:
        if task.kind == "size" or task.name in (CLASS.name, TEXTURE_CLASS.name, "malignancy"):
            continue
        shares = softmax(observation.outputs[task.name])
        rating = score_and_deviation(shares)[0] if task.kind == "ordinal" else None
        levels = task.levels
        if task is TEXTURE:
            shares, levels = softmax(observation.outputs[TEXTURE_CLASS.name]), TEXTURE_CLASS.levels
        probabilities = {name: float(p) for name, p in zip(levels, shares, strict=True)}
        found[task.name] = Characteristic(levels[int(shares.argmax())], rating, probabilities)
    return found


def size(
    observation: Observation, measured: Measurement | None, calibration: Calibration
) -> tuple[Size, tuple[str, ...]]:
    """Return the size and what a reader must know of it.

    The mask is measured; without one the regressed diameters stand in, and a warning says so.
    """
    regressed = {task.name: float(np.exp(observation.outputs[task.name][0])) for task in SIZES}
    sigma = sigma_of(observation)
    if measured is None:
        intervals = {
            name: _interval(value, calibration.regressed_quantiles[name] * sigma)
            for name, value in regressed.items()
        }
        warning = "no mask was found at this point: the diameters are regressed, not measured"
        return Size(**regressed, interval_90=intervals), (warning,)
    values = {name: float(getattr(measured, name)) for name in calibration.size_quantiles}
    intervals = {
        name: _interval(
            value,
            calibration.size_quantiles[name]
            * sigma
            * (VOLUME_EXPONENT if name == "volume_mm3" else 1.0),
        )
        for name, value in values.items()
    }
    return Size(**values, interval_90=intervals), _disagreement(regressed, values)


def sigma_of(observation: Observation) -> float:
    """Return the predicted standard deviation of the log diameter."""
    return float(np.exp(np.clip(observation.outputs["equivalent_diameter_mm"][1], -5, 2)))


def diameter_of(observation: Observation) -> float:
    """Return the regressed equivalent diameter, mm."""
    return float(np.exp(observation.outputs["equivalent_diameter_mm"][0]))


def _interval(value: float, half_width_log: float) -> Interval:
    return float(value * np.exp(-half_width_log)), float(value * np.exp(half_width_log))


def _disagreement(regressed: dict[str, float], measured: dict[str, float]) -> tuple[str, ...]:
    name = "equivalent_diameter_mm"
    low, high = sorted((regressed[name], measured[name]))
    if high <= (1 + DISAGREEMENT) * low:
        return ()
    return (
        f"the mask measures {measured[name]:.1f} mm, the regression says {regressed[name]:.1f} mm "
        "(equivalent diameter): check the mask",
    )
