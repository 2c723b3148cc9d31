"""Estimates the habits of a site's readers, apart from what their readings teach the model.

A habit is how severe the malignancy ratings are, where the class begins, and how large the sizes
are. Each is a single number. It counts only as far as it exceeds the chance of which patients were
read, and not at all with fewer than LEAST_PATIENTS; so few numbers are not overfitted. Output
layers train on the readings less the habit, which then is added to their answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import CLASS, MALIGNANCY, SIZES
from resmtnet.data.consensus import class_weight, malignant_share
from resmtnet.evaluation.bootstrap import LEAST_PATIENTS, BootstrapConfig, Resamples
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.site_habit import SiteHabit
from resmtnet.inference.sizes import size_of
from resmtnet.network.uncertainty import logit, sigmoid, softmax
from resmtnet.readings.record import Reading
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.reading_check import median
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule, raw_prediction
from resmtnet.types import Array

NEWTON_STEPS, MOST_LOGITS = 25, 4.0
"""Of the fits of one number, which may not run away where all nodules are of one class."""
PRIOR_SD_LOGITS = MOST_LOGITS / 2
"""Standard deviation of a normal prior around no habit: it decides where nodules are few, and is
weak against the readings of dozens of patients."""
TOLD_SIZES = ("equivalent_diameter_mm", "long_axis_mm")
LEAST_BLINDED = 15
"""Patients read without the model's answer, from which the habit is theirs alone."""
ONE_SIGMA = 0.8413447460685429
"""Share of a normal distribution below one standard deviation."""
DRAWS = 200
"""Draws of patients behind the standard error of a median."""
CLASSES = (0.0, 1.0)
"""Class shares of benign and malignant nodules."""
UNDECIDED = 0.5
"""Class share of a nodule between the classes; the calibration is fitted to the others."""


def habit_of(
    calibration: Calibration, samples: Sequence[Sample], heads: LinearHeads, doubt: float
) -> SiteHabit:
    """Return the habit of a site's readers.

    Readings of readers who had seen the model's answer lean towards it. They count only where too
    few were given without it.

    Args:
        calibration: of the output layers; its own habit is left out.
        samples: of the site.
        heads: the output layers.
        doubt: see shrunk.
    """
    if not samples:
        return SiteHabit()
    calibration = calibration.without_habit()
    blind = blinded(samples)
    chosen = blind if len({s.patient_id for s in blind}) >= LEAST_BLINDED else list(samples)
    held = heads.answer_all([s.held for s in chosen])
    patients = [s.patient_id for s in chosen]
    return SiteHabit(
        malignancy_tilt(calibration, held, patients, doubt),
        class_shift(calibration, chosen, held, doubt),
        size_shift(calibration, held, patients, doubt),
        len(chosen),
        len(set(patients)),
    )


def blinded(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples whose readers had not seen the model's answer, as far as is known."""
    return [s for s in samples if all(_blind(r) for r in s.consensus.readings)]


def _blind(reading: Reading) -> bool:
    return reading.answered is None or reading.answered.seen is False


def habits_apart(
    calibration: Calibration, samples: Sequence[Sample], heads: LinearHeads
) -> dict[str, SiteHabit]:
    """Return what readers differ by who had seen the model's answer, and who had not; not shrunk.

    Their difference is how much the shown answer draws a reader towards it.

    Args:
        calibration: of the served version.
        samples: of the site.
        heads: its output layers.
    """
    blind = blinded(samples)
    ids = {s.consensus.id for s in blind}
    seen = [s for s in samples if s.consensus.id not in ids]
    return {
        name: habit_of(calibration, part, heads, doubt=0.0)
        for name, part in (("not seen", blind), ("seen", seen))
        if part
    }


def offsets_of(samples: Sequence[Sample], heads: LinearHeads) -> dict[str, Array]:
    """Return by how much the readers differ on average, [outputs] of each output layer.

    Output layers that train on the readings less this learn what no habit explains.

    Args:
        samples: to train on.
        heads: the output layers from which the training starts.
    """
    held = heads.answer_all([s.held for s in samples])
    patients = [s.patient_id for s in samples]
    plain = Calibration()  # of the outputs themselves: no temperature, the margin alone
    levels = len(MALIGNANCY.levels)
    tilt = malignancy_tilt(plain, held, patients, doubt=0.0)
    margin = class_shift(plain, samples, held, doubt=0.0)
    return {
        MALIGNANCY.name: tilt * (np.arange(1, levels + 1) - (levels + 1) / 2),
        CLASS.name: np.array([-margin / 2, margin / 2]),
        **{
            task.name: np.array([regressed_shift(held, task.name, patients), 0.0]) for task in SIZES
        },
    }


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


def size_shift(
    calibration: Calibration, held: Sequence[CachedNodule], patients: Sequence[str], doubt: float
) -> float:
    """Return the median of read minus told log diameters, mean of each nodule's, shrunk."""
    rows = []
    for one, patient in zip(held, patients, strict=True):
        seen = raw_prediction(one, calibration)
        told = size_of(seen, calibration)[0]
        logs = [
            math.log(one.truth[name] / mm)
            for name in TOLD_SIZES
            if name in one.truth and (mm := getattr(told, name))
        ]
        if logs:
            rows.append((float(np.mean(logs)), patient))
    return _median([value for value, _ in rows], [p for _, p in rows], doubt)


def regressed_shift(held: Sequence[CachedNodule], name: str, patients: Sequence[str]) -> float:
    """Return the median of read minus predicted log size of a regressed size."""
    rows = [
        (np.log(h.truth[name]) - h.observation.outputs[name][0], p)
        for h, p in zip(held, patients, strict=True)
        if name in h.truth
    ]
    return _median([value for value, _ in rows], [p for _, p in rows], doubt=0.0)


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
    resamples = Resamples(patients, BootstrapConfig(resamples=DRAWS))
    replicates = resamples.replicate(median, numbers, numbers)
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
