"""Where the voxels of a CT lie: index (i, j, k) to LPS mm and back, as ITK defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resmtnet.errors import VolumeError

_ORTHONORMAL_TOLERANCE = 1e-3
"""Largest entry of |D'D - 1| that is still rounding in a header and not a shear."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume or of a part of it; once built it is valid.

    Example:
        >>> grid = Geometry((4, 4, 2), (0.5, 0.5, 2.0), (10.0, 0.0, -5.0), np.eye(3))
        >>> grid.ijk_to_lps((2, 0, 1)).tolist()
        [11.0, 0.0, -3.0]
        >>> grid.lps_to_ijk((11.0, 0.0, -3.0)).tolist()
        [2.0, 0.0, 1.0]
    """

    size_ijk: tuple[int, int, int]
    """Number of voxels along i (fastest in memory), j and k."""

    spacing_mm: tuple[float, float, float]
    """Distance between voxel centres along i, j and k."""

    origin_lps_mm: tuple[float, float, float]
    """Centre of voxel (0, 0, 0)."""

    direction: NDArray[np.float64]
    """float64 (3, 3): its columns are the LPS unit vectors of i, j and k; read-only."""

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in _three(self.size_ijk, "size"))
        spacing = tuple(float(x) for x in _three(self.spacing_mm, "spacing"))
        origin = tuple(float(x) for x in _three(self.origin_lps_mm, "origin"))
        direction = np.array(self.direction, dtype=np.float64)
        if min(size) < 1:
            raise VolumeError(f"The volume has the size {size} (i, j, k); each must be at least 1.")
        if not all(np.isfinite(x) and x > 0 for x in spacing):
            raise VolumeError(
                f"The voxel spacing is {spacing} mm (i, j, k); each must be finite and above 0. "
                "Correct the header of the image."
            )
        if not np.isfinite(origin).all():
            raise VolumeError(f"The origin is {origin}; three finite numbers (LPS mm) are needed.")
        _check_direction(direction)
        direction.flags.writeable = False
        object.__setattr__(self, "size_ijk", size)
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "origin_lps_mm", origin)
        object.__setattr__(self, "direction", direction)

    @property
    def slice_axis(self) -> int:
        """The voxel axis (0 = i, 1 = j, 2 = k) closest to the patient's superior axis."""
        return int(np.argmax(np.abs(self.direction[2])))

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Shape of the numpy array of this grid."""
        i, j, k = self.size_ijk
        return k, j, i

    @cached_property
    def index_per_mm(self) -> NDArray[np.float64]:
        """float64 (3, 3): voxel indices (i, j, k) that an LPS offset of 1 mm makes."""
        inverse = np.linalg.inv(self.direction * self.spacing_mm)
        inverse.flags.writeable = False
        return inverse

    def ijk_to_lps(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """LPS mm of (continuous) voxel indices.

        Args:
            ijk: (..., 3) indices, i first; the centre of a voxel is a whole number.

        Returns:
            float64 (..., 3), LPS mm.
        """
        scaled = np.asarray(ijk, dtype=np.float64) * self.spacing_mm
        return np.asarray(scaled @ self.direction.T + self.origin_lps_mm)

    def lps_to_ijk(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        """Continuous voxel indices of LPS points.

        Args:
            lps_mm: (..., 3) points, LPS mm.

        Returns:
            float64 (..., 3), i first; a whole number is the centre of a voxel.
        """
        offset = np.asarray(lps_mm, dtype=np.float64) - self.origin_lps_mm
        return np.asarray(offset @ self.index_per_mm.T)

    def contains(self, lps_mm: ArrayLike) -> bool:
        """Whether every point lies in a voxel (up to half a voxel beyond the outer centres)."""
        ijk = self.lps_to_ijk(lps_mm)
        return bool(np.all((ijk >= -0.5) & (ijk <= np.asarray(self.size_ijk) - 0.5)))

    def sub(self, start_ijk: Sequence[int], size_ijk: Sequence[int]) -> Geometry:
        """The grid of a sub-volume on the same voxels.

        Args:
            start_ijk: its first voxel in this grid; may be negative or beyond the end.
            size_ijk: its number of voxels.
        """
        x, y, z = self.ijk_to_lps(start_ijk)
        i, j, k = size_ijk
        part = Geometry((i, j, k), self.spacing_mm, (x, y, z), self.direction)
        part.__dict__["index_per_mm"] = self.index_per_mm  # the same grid: inverted once
        return part


def _three(values: Sequence[float], name: str) -> Sequence[float]:
    if len(values) != 3:
        raise VolumeError(f"The {name} of a volume needs 3 numbers (i, j, k), got {len(values)}.")
    return values


def _check_direction(direction: NDArray[np.float64]) -> None:
    if direction.shape != (3, 3) or not np.isfinite(direction).all():
        raise VolumeError(f"The direction must be a finite 3 x 3 matrix, got {direction.tolist()}.")
    if np.abs(direction.T @ direction - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE:
        raise VolumeError(
            f"The voxel axes {direction.round(4).tolist()} (columns i, j, k) are not orthogonal "
            "unit vectors: a sheared grid cannot be read. Resample the image to an orthogonal grid."
        )
