"""The regions of a label map, and which known nodules they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.types import Point

LARGEST_MM = 150.0
"""A region that extends further is no nodule."""
MOST_REGIONS = 200

_SAME_GRID_VOXELS = 0.01
_RESAMPLED = 0.95
"""Dice of two masks of one nodule on different grids."""
_ALIKE = 0.5
"""Dice below which two masks on one grid are never one that was resampled."""
_BLURRED = 0.4
"""Share of the voxels at a border that resampling changes at most: 3D Slicer 5.13 changed 36% of
those of a nodule of 4 mm, and 15% on larger ones, when it wrote masks as .seg.nrrd."""
_CHOICE = np.array(list(product((0, 1), repeat=3)))
"""(8, 3) which end of each axis a corner has."""


@dataclass(frozen=True, eq=False)
class Region:
    """Voxels of one value that touch one another."""

    value: int
    mask: NDArray[np.uint8]
    """[k, j, i], its bounding box."""
    grid: Geometry
    """Of the mask's voxels."""

    @property
    def extent_mm(self) -> float:
        """The longest side of its bounding box."""
        sides = np.multiply(self.grid.size_ijk, self.grid.spacing_mm)
        return float(sides.max())

    def voxels_lps_mm(self) -> NDArray[np.float64]:
        """(n, 3) centres of its voxels."""
        return self.grid.ijk_to_lps(np.argwhere(self.mask)[:, ::-1])

    def inner_point(self) -> Point:
        """The centre of the voxel closest to its centroid."""
        voxels = self.voxels_lps_mm()
        nearest = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()
        x, y, z = (float(mm) for mm in voxels[nearest])
        return x, y, z

    def contains(self, lps_mm: Point) -> bool:
        """Whether a point lies in one of its voxels."""
        return bool(inside(np.asarray([lps_mm]), self.mask, self.grid)[0])


@dataclass(frozen=True)
class Overlap:
    """How a region lies over a known nodule."""

    voxels: int
    """Voxels of the region that lie in the nodule."""
    dice: float
    of_known: float
    """Share of the nodule that the region covers."""
    same: bool
    """The region is the nodule as it was drawn, as far as can be known."""
    exact: bool
    """It is, voxel by voxel."""


def values_of(mask: NDArray[Any]) -> list[int]:
    """The values of a label map but 0, ascending; most slices are empty, and are passed over.

    >>> values_of(np.array([[[0, 2]], [[0, 0]], [[1, 2]]]))
    [1, 2]
    """
    found = {int(value) for plane in mask if plane.any() for value in np.unique(plane)}
    return sorted(found - {0})


def regions_of(mask: NDArray[Any], geometry: Geometry, value: int) -> list[Region]:
    """Split the voxels of one value into those that touch, corners included.

    Args:
        mask: [k, j, i], whole numbers.
        geometry: of its voxels.
        value: of the segment.
    """
    from scipy.ndimage import find_objects, label

    box = bounding_box(mask == value)
    if box is None:
        return []
    numbers, _ = label(mask[box] == value, structure=np.ones((3, 3, 3)))
    start = np.array([side.start for side in box])
    found = []
    for n, part in enumerate(find_objects(numbers), start=1):
        alone = (numbers[part] == n).astype(np.uint8)
        first = start + [side.start for side in part]
        found.append(Region(value, alone, geometry.sub(first[::-1].tolist(), alone.shape[::-1])))
    return found


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds every voxel of a mask; None for an empty one."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not len(filled):
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


def joined(parts: Sequence[Region]) -> Region:
    """Several regions of one grid and value as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0].grid
    starts = [np.rint(first.lps_to_ijk(p.grid.origin_lps_mm)).astype(int) for p in parts]
    low = np.min(starts, axis=0)
    high = np.max([s + p.grid.size_ijk for s, p in zip(starts, parts, strict=True)], axis=0)
    mask = np.zeros((high - low)[::-1], np.uint8)
    for start, part in zip(starts, parts, strict=True):
        i, j, k = start - low
        n_k, n_j, n_i = part.mask.shape
        mask[k : k + n_k, j : j + n_j, i : i + n_i] |= part.mask
    return Region(parts[0].value, mask, first.sub(low.tolist(), mask.shape[::-1]))


def inside(
    points_lps_mm: NDArray[np.float64], mask: NDArray[np.uint8], grid: Geometry
) -> NDArray[np.bool_]:
    """Whether points lie in the voxels of a mask.

    Args:
        points_lps_mm: (n, 3).
        mask: [k, j, i].
        grid: of its voxels.

    Returns:
        (n,) bool.
    """
    index = np.rint(grid.lps_to_ijk(points_lps_mm)).astype(np.int64)
    valid = ((index >= 0) & (index < grid.size_ijk)).all(axis=1)
    found = np.zeros(len(index), dtype=bool)
    i, j, k = index[valid].T
    found[valid] = mask[k, j, i] > 0
    return found


def overlap(region: Region, known: AnsweredNodule, resampled: bool = False) -> Overlap | None:
    """How a region lies over a known nodule; None where they do not touch, or it has no mask.

    Args:
        region: of a label map.
        known: the nodule.
        resampled: the voxels at the border may differ, although the grids are the same.
    """
    if known.mask is None or known.grid is None or not known.mask.any():
        return None
    if not _boxes_touch(region.grid, known.grid):
        return None
    voxels = int(inside(region.voxels_lps_mm(), known.mask, known.grid).sum())
    if not voxels:
        return None
    one_grid = _one_grid(region.grid, known.grid)
    # On one grid voxels are counted, so that a single one more is seen.
    volume, other = (
        (1.0, 1.0) if one_grid else map(np.prod, (region.grid.spacing_mm, known.grid.spacing_mm))
    )
    whole, drawn = int((known.mask > 0).sum()) * other, int(region.mask.sum()) * volume
    dice = float(2 * voxels * volume / (whole + drawn))
    exact = same = one_grid and dice == 1
    if not exact and dice >= _ALIKE and (resampled or (not one_grid and dice >= _RESAMPLED)):
        before, after = _both(region, known.mask, known.grid)
        exact = bool((before == after).all())
        same = exact or _by_resampling(before, after)
    return Overlap(voxels, dice, float(voxels * volume / whole), same, exact)


def _both(
    region: Region, mask: NDArray[np.uint8], grid: Geometry
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A mask and a region on the region's voxels, in a box that holds both with a margin."""
    ends = region.grid.lps_to_ijk(_corners(grid))
    low = np.floor(np.minimum(ends.min(axis=0), 0)).astype(int) - 2
    high = np.ceil(np.maximum(ends.max(axis=0), region.grid.size_ijk)).astype(int) + 2
    box = region.grid.sub(low.tolist(), (high - low).tolist())
    shape = tuple((high - low)[::-1])
    index = np.indices(shape).reshape(3, -1)[::-1].T
    before = inside(box.ijk_to_lps(index), mask, grid).reshape(shape)
    after = np.zeros(shape, bool)
    n_k, n_j, n_i = region.mask.shape
    i, j, k = -low
    after[k : k + n_k, j : j + n_j, i : i + n_i] = region.mask > 0
    return before, after


def _by_resampling(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> bool:
    """Whether two masks differ by no more than what resampling does to a border."""
    from scipy.ndimage import binary_dilation, binary_erosion

    around = np.ones((3, 3, 3))
    outer = binary_dilation(before, around) & ~before
    inner = before & ~binary_erosion(before, around)
    return all(
        not (changed & ~border).any() and changed.sum() <= _BLURRED * border.sum()
        for changed, border in ((after & ~before, outer), (before & ~after, inner))
    )


def is_all_of(region: Region, several: Sequence[AnsweredNodule]) -> bool:
    """Whether a region is what is drawn for several nodules that touch."""
    if any(known.mask is None or known.grid is None for known in several):
        return False
    points = region.voxels_lps_mm()
    covered = np.zeros(len(points), dtype=bool)
    for known in several:
        assert known.mask is not None
        assert known.grid is not None
        if not _one_grid(region.grid, known.grid):
            return False
        mine = inside(points, known.mask, known.grid)
        if mine.sum() != known.mask.astype(bool).sum():
            return False
        covered |= mine
    return bool(covered.all())


def _corners(grid: Geometry) -> NDArray[np.float64]:
    return grid.ijk_to_lps(_CHOICE * grid.size_ijk - 0.5)


def _boxes_touch(one: Geometry, other: Geometry) -> bool:
    a, b = _corners(one), _corners(other)
    return bool(((a.min(axis=0) <= b.max(axis=0)) & (b.min(axis=0) <= a.max(axis=0))).all())


def _one_grid(one: Geometry, other: Geometry) -> bool:
    """Whether the voxels of two grids are the same, whichever way their axes run."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    index = other.lps_to_ijk(one.ijk_to_lps(corners))
    whole = np.abs(index - np.rint(index)).max() <= _SAME_GRID_VOXELS
    volumes = np.prod(one.spacing_mm), np.prod(other.spacing_mm)
    return bool(whole and abs(volumes[0] / volumes[1] - 1) <= _SAME_GRID_VOXELS)
