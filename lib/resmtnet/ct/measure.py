"""Sizes of a mask on its own voxels: volume, and long and short axis in an axial slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.types import Point

MEASURED = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
)
"""Sizes that a mask has; attributes of a Measurement."""
TIE_MM = 1e-6
"""Axes that differ by less are equally long: rounding does not choose between them."""


@dataclass(frozen=True)
class Measurement:
    """Extent of a mask, mm and mm3."""

    volume_mm3: float
    long_axis_mm: float
    short_axis_mm: float
    centroid_lps_mm: Point
    long_axis_ends_lps_mm: tuple[Point, Point]
    """End points of the long axis."""
    short_axis_ends_lps_mm: tuple[Point, Point] | None = None
    """End points of a line as long as the short axis, perpendicular to the long one; None where
    only the sizes of a mask were kept."""

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


@dataclass(frozen=True, eq=False)
class _AxesOfSlice:
    """Long and short axis of one slice, in its plane."""

    long_mm: float
    short_mm: float
    long_ends_mm: NDArray[np.float64]
    """[2, 2]"""
    short_ends_mm: NDArray[np.float64]
    """[2, 2]"""

    def exceeds(self, other: _AxesOfSlice) -> bool:
        """Return whether this long axis is the longer one, or as long with a longer short axis."""
        if abs(self.long_mm - other.long_mm) > TIE_MM:
            return self.long_mm > other.long_mm
        return self.short_mm > other.short_mm + TIE_MM


def measure(mask: NDArray[Any], geometry: Geometry) -> Measurement | None:
    """Measure a mask.

    The long axis is the greatest distance of two corners of the mask's voxels in one axial slice,
    the short axis the greatest extent perpendicular to it in that slice. Where several long axes
    are equally long, the one with the longest short axis counts, so that the sizes do not depend
    on the order of the voxels.

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
    best: tuple[_AxesOfSlice, int] | None = None
    for level in np.unique(index_ijk[:, axis]):
        rows = index_ijk[index_ijk[:, axis] == level][:, in_plane]
        axes = _axes(_hull(_corners(_ends_of_rows(rows))) * spacing[in_plane])
        if best is None or axes.exceeds(best[0]):
            best = axes, int(level)
    assert best is not None  # for the type checker: the mask is not empty
    axes, level = best

    def ends_lps(ends_mm: NDArray[np.float64]) -> tuple[Point, Point]:
        ends_ijk = np.full((2, 3), float(level))
        ends_ijk[:, in_plane] = ends_mm / spacing[in_plane]
        one, other = geometry.ijk_to_lps(ends_ijk)
        return _point(one), _point(other)

    return Measurement(
        volume_mm3=float(len(index_ijk) * spacing.prod()),
        long_axis_mm=axes.long_mm,
        short_axis_mm=axes.short_mm,
        centroid_lps_mm=_point(geometry.ijk_to_lps(index_ijk.mean(0))),
        long_axis_ends_lps_mm=ends_lps(axes.long_ends_mm),
        short_axis_ends_lps_mm=ends_lps(axes.short_ends_mm),
    )


def _axes(corners_mm: NDArray[np.float64]) -> _AxesOfSlice:
    """Return the axes of a slice, given the corners [N, 2] of its hull."""
    distance = np.linalg.norm(corners_mm[:, None] - corners_mm[None], axis=2)
    pairs = np.argwhere(np.triu(distance >= distance.max() - TIE_MM, 1))
    ends = corners_mm[pairs]  # [pairs, 2, 2]
    along = (ends[:, 1] - ends[:, 0]) / distance[tuple(pairs.T)][:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    heights = corners_mm @ across.T  # [N, pairs]
    widest = int(np.ptp(heights, axis=0).argmax())
    low, high = heights[:, widest].argmin(), heights[:, widest].argmax()
    short_mm = float(heights[high, widest] - heights[low, widest])
    # the outermost corners need not face each other: the line lies midway between them
    crossing = (corners_mm[[low, high]] @ along[widest]).mean() * along[widest]
    levels = heights[[low, high], widest][:, None] * across[widest]
    return _AxesOfSlice(
        long_mm=float(np.linalg.norm(ends[widest, 1] - ends[widest, 0])),
        short_mm=short_mm,
        long_ends_mm=ends[widest],
        short_ends_mm=crossing + levels,
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
