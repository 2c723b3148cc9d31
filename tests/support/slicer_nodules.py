"""Findings and the environment for tests that start Slicer's own code."""

from __future__ import annotations

import os

import numpy as np

from resmtnet.ct import Geometry
from resmtnet.ct.measure import measure
from resmtnet.findings import Finding, Malignancy, Size, Uncertainty


def slicer_nodule(
    grid: Geometry, n: int, name: str, probability: float, masked: bool = True
) -> Finding:
    """The n-th nodule: a box of 5 x 7 x 3 voxels, or without a mask a point."""
    start = (6 + 12 * n, 8, 5)
    centre = tuple(float(x) for x in grid.ijk_to_lps(np.add(start, (2, 3, 1))))
    mask = np.ones((3, 7, 5), np.uint8)
    measured = measure(mask, grid.sub(start, mask.shape[::-1])) if masked else None
    return Finding(
        id=f"N{n + 1}",
        source="point",
        centre_lps_mm=centre,  # type: ignore[arg-type]
        centre_ijk=(0.0, 0.0, 0.0),
        class_name=name,
        probability_malignant=probability,
        malignancy=Malignancy(4.1, (3.3, 4.8), (0.0, 0.0, 0.2, 0.5, 0.3)),
        size=Size(long_axis_mm=6.6, mean_diameter_mm=5.0, equivalent_diameter_mm=6.0),
        characteristics={},
        uncertainty=Uncertainty(0.0, 0.0, 0.0),
        guidelines={},
        centroid_lps_mm=centre if masked else None,  # type: ignore[arg-type]
        mask=mask if masked else None,
        start_ijk=start if masked else None,
        long_axis_lps_mm=measured.long_axis_ends_lps_mm if measured else None,
        short_axis_lps_mm=measured.short_axis_ends_lps_mm if measured else None,
    )


def own_packages_only() -> dict[str, str]:
    """The environment of another interpreter, which has packages of its own."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
