"""The nodules on which two versions are compared: what readers say, and what a version predicts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import NODULE, TASKS
from resmtnet.data.consensus import malignant_share
from resmtnet.evaluation.records import Case
from resmtnet.inference import postprocessing, sizes
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.point import RawPrediction
from resmtnet.training.cached_nodule import CachedNodule, mask_threshold
from resmtnet.types import Array

SIZES = ("equivalent_diameter_mm", "long_axis_mm", "mean_diameter_mm")
"""A version is judged on the first, and on the second or, where that is unknown, the third."""
LEAST_P = 1e-3
"""Probabilities beyond this count as this: one nodule should not decide a log loss."""


@dataclass(frozen=True)
class ComparedNodules:
    """What readers say of the compared nodules, arrays [N]; NaN: unknown."""

    cases: tuple[Case, ...]
    patients: tuple[str, ...]
    malignant: Array
    """1, 0, or NaN where the readers are undecided."""
    score: Array
    log_diameter: Array
    """Of the equivalent diameter, mm."""
    log_axis: Array
    """Of the long axis, mm; where it is unknown, of the mean diameter."""
    by_mean: NDArray[np.bool_]
    """Whether log_axis is that of the mean diameter."""

    @classmethod
    def of(
        cls, held: Sequence[CachedNodule], shares: Sequence[float | None] | None = None
    ) -> ComparedNodules:
        """Take the readers' values.

        Args:
            held: the nodules.
            shares: class of each, 1, 0, 0.5 or None; by default that of its malignancy ratings.
        """
        if shares is None:
            rated = (h.case.malignancy for h in held)
            shares = [malignant_share(r) if r else None for r in rated]
        volume, axis, mean = (
            np.log(np.array([h.truth.get(name, math.nan) for h in held], float)) for name in SIZES
        )
        by_mean = np.isnan(axis)
        return cls(
            tuple(h.case for h in held),
            tuple(h.case.patient_id for h in held),
            np.array([math.nan if s in (None, 0.5) else s for s in shares], float),
            np.array([math.nan if h.case.score is None else h.case.score for h in held], float),
            volume,
            np.where(by_mean, mean, axis),
            by_mean,
        )

    def rows(self, index: NDArray[np.intp]) -> ComparedNodules:
        """Return some of the nodules."""
        return ComparedNodules(
            tuple(self.cases[n] for n in index),
            tuple(self.patients[n] for n in index),
            self.malignant[index],
            self.score[index],
            self.log_diameter[index],
            self.log_axis[index],
            self.by_mean[index],
        )


@dataclass(frozen=True)
class Predictions:
    """What one version predicts for the compared nodules, arrays [N]; NaN: no value."""

    probability: Array
    score: Array
    score_interval: Array
    """[N, 2]"""
    log_diameter: Array
    log_diameter_interval: Array
    """[N, 2]"""
    log_axis: Array
    """See ComparedNodules."""
    log_axis_interval: Array
    """[N, 2]"""
    dice: Array
    """Overlap of the mask with the readers'; NaN where there is none to compare with."""
    shown: Array
    """1 where a search that proposes the place would show it as a nodule, 0 where it would not;
    NaN where the model has no such task."""

    @classmethod
    def of(
        cls, nodules: ComparedNodules, held: Sequence[CachedNodule], calibration: Calibration
    ) -> Predictions:
        """Take the predictions of a version.

        Args:
            nodules: of the same cached nodules.
            held: the cached nodules, with the outputs of this version.
            calibration: of the version.
        """
        levels = [mask_threshold(one, calibration) for one in held]
        seen = [one.seen(level) for one, level in zip(held, levels, strict=True)]
        masks = [one.masks.get(level) for one, level in zip(held, levels, strict=True)]
        scores = [postprocessing.malignancy(one, calibration) for one in seen]
        sizes = [
            _sizes(one, by_mean, calibration)
            for one, by_mean in zip(seen, nodules.by_mean, strict=True)
        ]
        outputs = {
            task.name: np.array([one.observation.outputs[task.name] for one in seen])
            for task in TASKS
        }
        with np.errstate(invalid="ignore"):
            log = np.log(np.array(sizes, float).reshape(-1, 2, 3))
        return cls(
            np.clip(calibration.probability_malignant(outputs), LEAST_P, 1 - LEAST_P),
            np.array([m.score for m in scores]),
            np.array([m.interval_90 for m in scores]).reshape(-1, 2),
            log[:, 0, 0],
            log[:, 0, 1:],
            log[:, 1, 0],
            log[:, 1, 1:],
            np.array([math.nan if m is None or m.dice is None else m.dice for m in masks]),
            np.array([_shown(one, calibration) for one in seen], float),
        )

    @classmethod
    def joined(
        cls, count: int, parts: Sequence[tuple[NDArray[np.intp], Predictions]]
    ) -> Predictions:
        """Return what several versions predict, each for other nodules; NaN where none does.

        Args:
            count: of all nodules.
            parts: places of the nodules, and what is predicted for them.
        """
        whole: dict[str, Array] = {}
        for index, part in parts:
            for name, values in vars(part).items():
                shape = (count, *values.shape[1:])
                whole.setdefault(name, np.full(shape, math.nan))[index] = values
        return cls(**whole)

    def rows(self, index: NDArray[np.intp]) -> Predictions:
        """Return the predictions for some of the nodules."""
        return Predictions(**{name: values[index] for name, values in vars(self).items()})


def _shown(seen: RawPrediction, calibration: Calibration) -> float:
    """Return whether a search would show a place; see Predictions.shown."""
    outputs, presence = seen.observation.outputs, calibration.nodule
    if presence is None or NODULE.name not in outputs:
        return math.nan
    return float(presence.probability(outputs, candidate=True) >= presence.candidate_threshold)


def _sizes(
    seen: RawPrediction, by_mean: bool, calibration: Calibration
) -> list[tuple[float, float, float]]:
    """Return value and interval, mm, of the equivalent diameter and of an axis."""
    if seen.measured is None and seen.no_nodule:
        return [(math.nan, math.nan, math.nan)] * 2
    size = sizes.size(seen.observation, seen.measured, calibration)[0]
    volume, axis, mean = SIZES
    found = []
    for name in (volume, mean if by_mean else axis):
        low, high = size.interval_90.get(name, (math.nan, math.nan))
        value = getattr(size, name)
        found.append((math.nan if value is None else value, low, high))
    return found


def bands(nodules: ComparedNodules, edges_mm: Sequence[float]) -> Mapping[str, NDArray[np.bool_]]:
    """Return which nodules lie in each band of read diameter, lower edge included."""
    diameter_mm = np.exp(nodules.log_diameter)
    ends = [0.0, *edges_mm, math.inf]
    return {
        f"{low:g}-{high:g} mm": (low <= diameter_mm) & (diameter_mm < high)
        for low, high in itertools.pairwise(ends)
    }
