"""Moves the size intervals of a model up to version 3 to axes that are no longer corrected.

Such a model multiplied the long and the short axis of its masks by fitted factors ("size_scales"
in calibration.json), and its intervals are those of the products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.measure import Measurement
from resmtnet.errors import ModelError
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import COVERAGE
from resmtnet.inference.sizes import sigma_of, subsolid_of
from resmtnet.network.uncertainty import conformal_quantile
from resmtnet.training.cached_nodule import CachedNodule, raw_prediction

AXES = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm")
"""Measured sizes that the factors moved."""


def uncorrect_axes(
    held: Sequence[CachedNodule], calibration: Calibration, factors: Mapping[str, float]
) -> Calibration:
    """Move the intervals of the axes from corrected axes to those of the mask as it is.

    The errors of both definitions are compared on the same nodules, and the widths move by the
    ratio of their 90% quantiles. What depends on which nodules these are cancels in the ratio, so
    that a few hundred suffice, and the larger set that the widths were fitted on is not needed.

    Args:
        held: nodules that the model never trained on.
        calibration: of the model, with the old intervals.
        factors: of the axes, by name.

    Raises:
        ModelError: too few of the nodules have a mask and known axes.
    """
    moved = dict(calibration.size_intervals)
    for name in AXES:
        before, after = _axis_errors(held, calibration, name, factors).T
        ratio = conformal_quantile(after, COVERAGE) / conformal_quantile(before, COVERAGE)
        if not np.isfinite(ratio):
            raise ModelError(
                f"{len(after)} nodules have a mask and a known {name}: too few to move its "
                "interval; give a model that carries a larger calibration set"
            )
        widths = moved[name].widths
        values = tuple(ratio * value for value in widths.values)
        moved[name] = replace(moved[name], widths=replace(widths, values=values))
    return replace(calibration, size_intervals=moved)


def _axis_errors(
    held: Sequence[CachedNodule],
    calibration: Calibration,
    name: str,
    factors: Mapping[str, float],
) -> NDArray[np.float64]:
    """Return the errors of the log of an axis in half widths of its interval, [N, 2].

    The first column is of the axis corrected by the factors, the second of the mask as it is.
    """
    rows = []
    for one in held:
        seen = raw_prediction(one, calibration)
        if seen.measured is None or name not in one.truth:
            continue
        half = calibration.size_intervals[name].half_width(
            sigma_of(seen.observation),
            subsolid_of(seen.observation, calibration),
            seen.measured.equivalent_diameter_mm,
        )
        told = (_corrected(seen.measured, name, factors), getattr(seen.measured, name))
        rows.append([abs(np.log(mm / one.truth[name])) / half for mm in told])
    return np.array(rows, float).reshape(-1, 2)


def _corrected(measured: Measurement, name: str, factors: Mapping[str, float]) -> float:
    """Return an axis as versions up to 3 told it."""
    long_mm = factors.get("long_axis_mm", 1.0) * measured.long_axis_mm
    short_mm = min(factors.get("short_axis_mm", 1.0) * measured.short_axis_mm, long_mm)
    means = {"long_axis_mm": long_mm, "short_axis_mm": short_mm}
    return means.get(name, (long_mm + short_mm) / 2)
