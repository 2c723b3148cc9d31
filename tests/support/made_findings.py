"""Findings of round nodules on a small grid, for tests that need no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import itk
import numpy as np

from resmtnet.ct import Geometry
from resmtnet.ct.measure import measure
from resmtnet.findings import (
    Finding,
    Malignancy,
    Size,
    Uncertainty,
)

SIZE_IJK = (24, 20, 12)
SPACING_MM = (0.8, 0.9, 2.0)
ORIGIN_LPS_MM = (-30.0, 12.5, -100.0)
CLASSES = (("malignant", 0.83), ("benign", 0.1), ("indeterminate", 0.48))


def ball(grid: Geometry, centre_ijk: Sequence[float], radius_mm: float) -> tuple[Any, Any]:
    """A ball on the voxels of a grid: mask [k, j, i] and the voxel at which it starts."""
    spacing = np.asarray(grid.spacing_mm)
    start = np.floor(np.asarray(centre_ijk) - radius_mm / spacing).astype(int)
    stop = np.ceil(np.asarray(centre_ijk) + radius_mm / spacing).astype(int) + 1
    index = np.stack(
        np.meshgrid(*[np.arange(*ends) for ends in zip(start, stop, strict=True)], indexing="ij"),
        axis=-1,
    )
    inside = np.linalg.norm((index - centre_ijk) * spacing, axis=-1) <= radius_mm
    return inside.transpose(2, 1, 0).astype(np.uint8), tuple(int(n) for n in start)


def make_finding(
    grid: Geometry, centre_ijk: Sequence[float], n: int = 0, radius_mm: float = 4.0, **changes: Any
) -> Finding:
    """The n-th nodule, a ball."""
    name, probability = CLASSES[n % 3]
    mask, start = ball(grid, centre_ijk, radius_mm)
    centre = tuple(float(x) for x in grid.ijk_to_lps(centre_ijk))
    measured = measure(mask, grid.sub(start, mask.shape[::-1]))
    values: dict[str, Any] = {
        "id": f"N{n + 1}",
        "source": "point",
        "centre_lps_mm": centre,
        "centre_ijk": tuple(float(x) for x in centre_ijk),
        "class_name": name,
        "probability_malignant": probability,
        "malignancy": Malignancy(4.1, (3.3, 4.8), (0.0, 0.1, 0.1, 0.3, 0.5)),
        "size": Size(long_axis_mm=8.4, mean_diameter_mm=8.2, equivalent_diameter_mm=8.0),
        "characteristics": {},
        "uncertainty": Uncertainty(0.3, 0.1, 0.5),
        "guidelines": {"context": None},
        "centroid_lps_mm": centre,
        "mask": mask,
        "start_ijk": start,
        "long_axis_lps_mm": measured.long_axis_ends_lps_mm if measured else None,
        "short_axis_lps_mm": measured.short_axis_ends_lps_mm if measured else None,
    }
    return Finding(**values | changes)


def read_array(path: Path | str) -> tuple[np.ndarray, Any]:
    """Voxels [k, j, i] and the image, as ITK reads a file."""
    image = itk.imread(str(path))
    return itk.array_from_image(image), image


def small_grid() -> Geometry:
    """A small grid whose axes are not the patient's."""
    angle = 0.2
    turned = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    return Geometry(SIZE_IJK, SPACING_MM, ORIGIN_LPS_MM, turned)
