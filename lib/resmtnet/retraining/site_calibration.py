"""Calibrates fine-tuned output layers, and estimates the habits of the site's readers.

With the parent's calibration set the calibration is fitted again on it; without one the parent's
constants stay (a warm start). Then three habits of the readers are estimated from the nodules that
trained: how severe their malignancy ratings are, how large the sizes that are regressed, and where
their class begins. Each is a single number. It counts only as far as it exceeds the chance of which
patients were read, and not at all with fewer than LEAST_PATIENTS; so few numbers are not
overfitted, and the held-out patients stay untouched for the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import MALIGNANCY, SIZES
from resmtnet.data.consensus import class_weight, malignant_share
from resmtnet.evaluation.bootstrap import LEAST_PATIENTS, BootstrapConfig, Resamples
from resmtnet.inference.calibration import Calibration
from resmtnet.network.uncertainty import logit, sigmoid, softmax
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.calibrate import refit_calibration
from resmtnet.types import Array

NEWTON_STEPS, MOST_LOGITS = 25, 4.0
"""Of the fits of one number, which may not run away where all nodules are of one class."""
PRIOR_SD_LOGITS = MOST_LOGITS / 2
"""Standard deviation of a normal prior around no habit: it decides where nodules are few, and is
weak against the readings of dozens of patients."""
ONE_SIGMA = 0.8413447460685429
"""Share of a normal distribution below one standard deviation."""
DRAWS = 200
"""Draws of patients behind the standard error of a median."""
CLASSES = (0.0, 1.0)
"""Class shares of benign and malignant nodules."""
UNDECIDED = 0.5
"""Class share of a nodule between the classes; the calibration is fitted to the others."""


@dataclass(frozen=True)
class Habits:
    """How a site's readers differ from what the model predicts."""

    tilt: float = 0.0
    """Added to the malignancy logits, times level - 3."""
    regressed: Mapping[str, float] = field(default_factory=dict)
    """Added to the regressed log sizes, by task."""
    class_shift: float = 0.0
    """Added to the logit of the class."""

    @property
    def biases(self) -> dict[str, Array]:
        """What is added to the biases of the output layers, [outputs] by task."""
        levels = len(MALIGNANCY.levels)
        tilt = self.tilt * (np.arange(1, levels + 1) - (levels + 1) / 2)
        sizes = {name: np.array([log, 0.0]) for name, log in self.regressed.items()}
        return {MALIGNANCY.name: tilt, **sizes}

    def of(self, calibration: Calibration) -> Calibration:
        """Return a calibration with these habits."""
        intercept = calibration.class_intercept + self.class_shift
        return replace(calibration, class_intercept=intercept)


def recalibrated(
    calibration: Calibration,
    kept: Sequence[CachedNodule],
    samples: Sequence[Sample],
    heads: LinearHeads,
    doubt: float,
) -> tuple[Calibration, Habits]:
    """Return the calibration of new output layers, and the habits it does not yet contain.

    Args:
        calibration: of the parent.
        kept: its calibration set; may be empty.
        samples: of the site.
        heads: the new output layers.
        doubt: see shrunk.
    """
    base = refit_calibration(heads.answer_all(kept), kept, calibration) if kept else calibration
    held = heads.answer_all([s.held for s in samples])
    patients = [s.patient_id for s in samples]
    habits = Habits(
        malignancy_tilt(base, held, patients, doubt),
        {t.name: regressed_shift(held, t.name, patients, doubt) for t in SIZES},
    )
    held = heads.moved(habits.biases).answer_all(held)
    return base, replace(habits, class_shift=class_shift(base, samples, held, doubt))


def shrunk(value: float, error: float, doubt: float) -> float:
    """Return an estimate, shrunk to 0 the more, the less it exceeds its standard error.

    Args:
        value: the estimate.
        error: its standard error.
        doubt: standard errors up to which it counts as chance (positive-part James-Stein;
            Efron and Morris, J Am Stat Assoc 68, 1973).

    >>> shrunk(0.2, 0.1, 2.0), shrunk(0.4, 0.1, 2.0)
    (0.0, 0.30000000000000004)
    """
    if not value:
        return 0.0
    return value * max(0.0, 1 - (doubt * error / value) ** 2)


def malignancy_tilt(
    calibration: Calibration, held: Sequence[CachedNodule], patients: Sequence[str], doubt: float
) -> float:
    """Return the most probable tilt of the readers' ratings, each nodule once, shrunk."""
    rated = [(h, p) for h, p in zip(held, patients, strict=True) if h.case.malignancy]
    if not rated:
        return 0.0
    logits = np.array([h.observation.outputs[MALIGNANCY.name] for h, _ in rated])
    told_mean = np.array([float(np.mean(h.case.malignancy)) for h, _ in rated])
    levels = np.arange(1, logits.shape[1] + 1)

    def moments(tilt: float) -> tuple[Array, Array]:
        shares = softmax((logits + tilt * levels) / calibration.malignancy_temperature)
        mean = shares @ levels
        return told_mean - mean, (shares @ levels**2 - mean**2) / calibration.malignancy_temperature

    tilt, error = _newton(moments, [p for _, p in rated])
    return shrunk(tilt, error, doubt)


def class_shift(
    calibration: Calibration, samples: Sequence[Sample], held: Sequence[CachedNodule], doubt: float
) -> float:
    """Return the most probable shift of the class intercept, logits, shrunk."""
    rows = [
        (logit(calibration.probability_malignant(h.observation.outputs)), malignant_share(v), w, s)
        for s, h in zip(samples, held, strict=True)
        if (v := s.consensus.votes) and (w := class_weight(v)) and malignant_share(v) != UNDECIDED
    ]
    if len({share for _, share, _, _ in rows}) < len(
        CLASSES
    ):  # readings of one class do not tell where it begins
        return 0.0
    linear, share, weight = np.array([row[:3] for row in rows], float).T

    def moments(shift: float) -> tuple[Array, Array]:
        p = sigmoid(linear + shift)
        return weight * (share - p), weight * p * (1 - p)

    shift, error = _newton(moments, [s.patient_id for *_, s in rows])
    return shrunk(shift, error, doubt)


def regressed_shift(
    held: Sequence[CachedNodule], name: str, patients: Sequence[str], doubt: float
) -> float:
    """Return the median of read minus predicted log size of a regressed size, shrunk."""
    rows = [
        (np.log(h.truth[name]) - h.observation.outputs[name][0], p)
        for h, p in zip(held, patients, strict=True)
        if name in h.truth
    ]
    return _median([value for value, _ in rows], [p for _, p in rows], doubt)


def _newton(
    moments: Callable[[float], tuple[Array, Array]], patients: Sequence[str]
) -> tuple[float, float]:
    """Return the most probable value of one number, and its standard error by patient.

    The value maximises the likelihood times a normal prior around 0, so that a handful of nodules
    of one class has a finite value; too few patients give 0.

    Args:
        moments: of a number: residuals [N], and how fast they fall with it [N].
        patients: [N]; nodules of one patient err together (Liang and Zeger, Biometrika 1986).
    """
    place, count = _groups(patients)
    if count < LEAST_PATIENTS:
        return 0.0, math.inf
    precision, value = 1 / PRIOR_SD_LOGITS**2, 0.0
    for _ in range(NEWTON_STEPS):
        residual, slope = moments(value)
        step = (residual.sum() - precision * value) / (slope.sum() + precision)
        value = float(np.clip(value + np.clip(step, -1, 1), -MOST_LOGITS, MOST_LOGITS))
    residual, slope = moments(value)
    by_patient = np.bincount(place, residual)
    error = np.sqrt((by_patient**2).sum()) / (slope.sum() + precision)
    return value, float(error) * small_sample_factor(count)


def _median(values: Sequence[float] | Array, patients: Sequence[str], doubt: float) -> float:
    """Return a median, shrunk by its standard error over draws of patients; 0 of too few."""
    count = _groups(patients)[1]
    if count < LEAST_PATIENTS:
        return 0.0
    numbers = np.asarray(values, float)
    replicates = Resamples(patients, BootstrapConfig(resamples=DRAWS)).replicate(
        lambda truth, _: float(np.median(truth)), numbers, numbers
    )
    error = float(np.std(replicates.draws)) * small_sample_factor(count)
    return shrunk(replicates.value, error, doubt)


def small_sample_factor(patients: int) -> float:
    """Return by how much a standard error over so few patients is too small.

    Residuals scatter less around an estimate that was made from them, and the estimated spread is
    itself uncertain: Student's t instead of the normal distribution (Cameron and Miller, J Hum
    Resour 50, 2015).

    Args:
        patients: at least 2.

    >>> round(small_sample_factor(5), 2), round(small_sample_factor(50), 2)
    (1.28, 1.02)
    """
    from scipy.stats import t

    freedom = patients - 1
    return float(np.sqrt(patients / freedom) * t.ppf(ONE_SIGMA, freedom))


def _groups(patients: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Return the patient of each nodule as a number from 0, and how many there are."""
    unique, place = np.unique(np.asarray(patients, str), return_inverse=True)
    return place, len(unique)
