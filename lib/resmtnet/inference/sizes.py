"""The sizes that are told of a nodule: measured in its mask, or regressed; and where it is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from resmtnet.characteristics import SIZES, TEXTURE_CLASS
from resmtnet.ct.measure import MEASURED, Measurement
from resmtnet.findings import Interval, Size
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.mask_threshold import moved_by, settle, usual_level
from resmtnet.inference.point import RawPrediction

DISAGREEMENT = 0.3
"""Relative difference of measured and regressed diameter that is told to the reader."""


def size_of(seen: RawPrediction, calibration: Calibration) -> tuple[Size, tuple[str, ...]]:
    """Return the size at a point and what a reader must know of it; none where no nodule is."""
    if seen.measured is None and seen.no_nodule:
        return Size(), (seen.no_nodule,)
    found, warnings = size(seen.observation, seen.measured, calibration)
    if seen.solid is None:
        return found, warnings
    intervals = {**found.interval_90, "solid_component_mm": seen.solid.interval_mm}
    solid_mm = seen.solid.mean_diameter_mm
    return replace(found, solid_component_mm=solid_mm, interval_90=intervals), warnings


def size(
    observation: RawOutputs, measured: Measurement | None, calibration: Calibration
) -> tuple[Size, tuple[str, ...]]:
    """Return the size and what a reader must know of it.

    All sizes are those of the mask as it is: a mask that comes back unchanged reads the same.
    Without a mask the regressed diameters stand in, and a warning says so.
    """
    factor = calibration.habit.size_factor
    regressed = {
        task.name: factor * float(np.exp(observation.outputs[task.name][0])) for task in SIZES
    }
    if measured is None:
        values, intervals = regressed, calibration.regressed_intervals
        warnings: tuple[str, ...] = (
            "no mask was found at this point: the diameters are regressed, not measured",
        )
    else:
        values = {name: float(getattr(measured, name)) for name in MEASURED}
        intervals = calibration.size_intervals
        warnings = _disagreement(regressed, values)
    sigma, subsolid = sigma_of(observation), subsolid_of(observation, calibration)
    at_mm = values["equivalent_diameter_mm"]
    interval_90 = {
        name: _interval(values[name], interval.half_width(sigma, subsolid, at_mm))
        for name, interval in intervals.items()
    }
    return Size(**values, interval_90=interval_90), warnings


def sigma_of(observation: RawOutputs) -> float:
    """Return the predicted standard deviation of the log diameter."""
    return float(np.exp(np.clip(observation.outputs["equivalent_diameter_mm"][1], -5, 2)))


def subsolid_of(observation: RawOutputs, calibration: Calibration) -> float:
    """Return the calibrated probability that a nodule is not solid."""
    shares = calibration.texture.probabilities(observation.outputs[TEXTURE_CLASS.name])
    return 1 - float(shares[TEXTURE_CLASS.levels.index("solid")])


def solid_threshold_hu(observation: RawOutputs, calibration: Calibration) -> float:
    """Return the density from which a voxel of a nodule counts as solid, HU."""
    shares = calibration.texture.probabilities(observation.outputs[TEXTURE_CLASS.name])
    texture = {name: float(p) for name, p in zip(TEXTURE_CLASS.levels, shares, strict=True)}
    return calibration.solid.threshold_hu(texture)


def regressed_diameter_of(observation: RawOutputs) -> float:
    """Return the regressed equivalent diameter, mm."""
    return float(np.exp(observation.outputs["equivalent_diameter_mm"][0]))


def diameter_of(seen: RawPrediction) -> float:
    """Return the equivalent diameter that is told, mm: measured, else regressed."""
    if seen.measured is not None:
        return seen.measured.equivalent_diameter_mm
    return regressed_diameter_of(seen.observation)


def mask_level(
    observation: RawOutputs,
    diameter_mm: Callable[[float], float | None],
    calibration: Calibration,
) -> float:
    """Return the probability at which the mask of a nodule is cut; see mask_threshold.settle.

    A habit of size moves it, so that mask and numbers stay the same thing.
    """
    regressed_mm = regressed_diameter_of(observation)
    solid_level = calibration.mask_thresholds.at(regressed_mm)
    usual = usual_level(solid_level, subsolid_of(observation, calibration))
    level = settle(diameter_mm, usual, regressed_mm, sigma_of(observation))
    return moved_by(calibration.habit.size_factor, level, diameter_mm)


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
