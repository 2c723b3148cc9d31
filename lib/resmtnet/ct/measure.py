"""Sizes of a mask on its own voxels: volume, and long and short axis in an axial slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.types import Point


@dataclass(frozen=True)
class Measurement:
    """Extent of a mask, mm and mm3."""

    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    centroid_lps_mm: Point
    long_axis_ends_lps_mm: tuple[Point, Point]
    """End points of the long axis."""

    @property
    def mean_diameter_mm(self) -> float:
        """Mean of long and short axis."""
        return (self.long_axis_mm + self.short_axis_mm) / 2

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the sphere of the same volume."""
        return _of_sphere(self.volume_mm3)


def equivalent_diameter_mm(mask: NDArray[Any], geometry: Geometry) -> float | None:
    """Return the diameter of the sphere of a mask's volume, as measure does; None if it is empty.

    Args:
        mask: [k, j, i], non-zero = inside.
        geometry: of the mask's voxels.
    """
    count = int(np.count_nonzero(mask))
    return _of_sphere(count * float(np.prod(geometry.spacing_mm))) if count else None


def _of_sphere(volume_mm3: float) -> float:
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def measure(mask: NDArray[Any], geometry: Geometry) -> Measurement | None:
    """Measure a mask.

    The long axis is the greatest distance of two corners of the mask's voxels in one axial slice,
    the short axis the greatest extent perpendicular to it in that slice.

    Args:
        mask: [k, j, i], non-zero = inside.
        geometry: of the mask's voxels.

    Returns:
        The sizes, or None for an empty mask.
    """
    index_ijk = np.argwhere(mask.transpose(2, 1, 0) != 0)
    if not len(index_ijk):
        return None
    axis = geometry.slice_axis
    in_plane = [a for a in range(3) if a != axis]
    spacing = np.asarray(geometry.spacing_mm)
    best: tuple[float, NDArray[np.float64], NDArray[np.float64], int] | None = None
    for level in np.unique(index_ijk[:, axis]):
        rows = index_ijk[index_ijk[:, axis] == level][:, in_plane]
        corners = _hull(_corners(_ends_of_rows(rows))) * spacing[in_plane]
        distance = np.linalg.norm(corners[:, None] - corners[None], axis=2)
        one, other = np.unravel_index(distance.argmax(), distance.shape)
        if best is None or distance.max() > best[0] + 1e-9:
            ends = corners[[one, other]]
            best = (float(distance.max()), ends, corners, int(level))
    assert best is not None  # for the type checker: the mask is not empty
    long_axis, ends, corners, level = best
    across = np.array([-(ends[1] - ends[0])[1], (ends[1] - ends[0])[0]]) / long_axis
    extent = corners @ across
    ends_ijk = np.full((2, 3), float(level))
    ends_ijk[:, in_plane] = ends / spacing[in_plane]
    ends_lps = geometry.ijk_to_lps(ends_ijk)
    centroid = geometry.ijk_to_lps(index_ijk.mean(0))
    return Measurement(
        volume_mm3=float(len(index_ijk) * spacing.prod()),
        long_axis_mm=long_axis,
        short_axis_mm=float(extent.max() - extent.min()),
        centroid_lps_mm=_point(centroid),
        long_axis_ends_lps_mm=(_point(ends_lps[0]), _point(ends_lps[1])),
    )


def _ends_of_rows(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the first and last pixel of each row: the others are inside the hull."""
    index = index[np.lexsort((index[:, 1], index[:, 0]))]
    first = np.flatnonzero(np.diff(index[:, 0], prepend=index[0, 0] - 1))
    last = np.append(first[1:], len(index)) - 1
    return np.asarray(index[np.concatenate([first, last])])


def _corners(index: NDArray[np.int64]) -> NDArray[np.float64]:
    steps = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    return np.asarray((index[:, None] + steps).reshape(-1, 2))


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import ConvexHull

    return np.asarray(points[ConvexHull(points).vertices])


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z
