"""The CT on a coarser grid with axes towards L, P and S, whatever way its voxels are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.volume import CTVolume

Array32 = NDArray[np.float32]

_HU_RANGE = (-1000.0, 200.0)
"""What lies beyond tells nothing about a nodule; bone and metal would dominate the averages."""


@dataclass(frozen=True, eq=False)
class SearchGrid:
    """Voxels on their grid."""

    hu: Array32
    """float32 [k, j, i], HU, -1000 to 200."""

    geometry: Geometry

    @classmethod
    def of(cls, ct: CTVolume, spacing_mm: float) -> SearchGrid:
        """A CT with its axes permuted and flipped to those nearest to L, P and S, then averaged.

        Args:
            ct: any orientation; oblique axes stay oblique.
            spacing_mm: about the new spacing.
        """
        grid = ct.geometry
        _, order = linear_sum_assignment(-np.abs(grid.direction))
        signs = np.where(grid.direction[np.arange(3), order] < 0, -1, 1)
        size = np.asarray(grid.size_ijk)
        first_ijk = np.zeros(3)
        first_ijk[order] = np.where(signs < 0, size[order] - 1, 0)
        geometry = Geometry(
            _ints(size[order]),
            _floats(np.asarray(grid.spacing_mm)[order]),
            _floats(grid.ijk_to_lps(first_ijk)),
            grid.direction[:, order] * signs,
        )
        hu = ct.array().transpose(2 - order[::-1])
        hu = hu[tuple(slice(None, None, int(sign)) for sign in signs[::-1])]
        return _averaged(hu, geometry, spacing_mm)

    def resampled(self, spacing_mm: float) -> SearchGrid:
        """The same extent in voxels of about this spacing."""
        return _averaged(self.hu, self.geometry, spacing_mm)


def _averaged(hu: NDArray[Any], geometry: Geometry, spacing_mm: float) -> SearchGrid:
    """Averages [k, j, i] to whole voxels of about one spacing that fill the same extent."""
    size = np.asarray(geometry.size_ijk)
    extent_mm = size * geometry.spacing_mm
    counts = np.maximum(np.rint(extent_mm / spacing_mm), 1).astype(int)
    along_i, along_j, along_k = (
        _weights(int(n), int(m)) for n, m in zip(size, counts, strict=True)
    )
    planes = np.empty((size[2], counts[1], counts[0]), np.float32)
    for plane, values in zip(planes, hu, strict=True):
        plane_hu = values.astype(np.float32, order="C")
        np.clip(plane_hu, *_HU_RANGE, out=plane_hu)
        np.matmul(along_j @ plane_hu, along_i.T, out=plane)
    new_hu = (along_k @ planes.reshape(len(planes), -1)).reshape(counts[::-1])
    origin = geometry.ijk_to_lps((size / counts - 1) / 2)
    new = Geometry(_ints(counts), _floats(extent_mm / counts), _floats(origin), geometry.direction)
    return SearchGrid(new_hu, new)


def _weights(size: int, count: int) -> Array32:
    """Weights (count, size) of the voxels in the new ones: triangles as wide as the larger voxel.

    >>> _weights(2, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    >>> _weights(2, 1).tolist()
    [[0.5, 0.5]]
    """
    step = size / count
    centres = (np.arange(count) + 0.5) * step - 0.5
    distance = np.abs(centres[:, None] - np.arange(size)) / max(step, 1.0)
    weights = np.maximum(1 - distance, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _ints(values: Sequence[Any] | NDArray[Any]) -> tuple[int, int, int]:
    i, j, k = (int(value) for value in values)
    return i, j, k


def _floats(values: Sequence[Any] | NDArray[Any]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
