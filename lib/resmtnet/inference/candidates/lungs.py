"""The lungs of a CT, closed so that nodules on the pleura and on vessels lie inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resmtnet.ct.geometry import Geometry
from resmtnet.inference.candidates.grid import SearchGrid

Mask = NDArray[np.bool_]

RIGHT, LEFT = 1, 2
"""Values of lung_sides."""

_AIR_BELOW_HU = -500.0
_OUTSIDE_BELOW_HU = -950.0
"""Median of air that reaches a side of the volume: below this it is not a lung."""
_GAS_BELOW_HU = -985.0
"""Median of air that reaches no side: below this it is gas of the bowel."""
_LEAST_ML = 30.0
_LEAST_SHARE = 0.1
"""Of the largest: keeps a small second lung and drops gas below the diaphragm."""
_CORE_DEPTH_MM = 6.0
"""An erosion by this parts the lungs from each other and from the trachea."""
_AIRWAY_BELOW_HU = -950.0
_CLOSING_MM = 15.0


@dataclass(frozen=True, eq=False)
class LungRegion:
    """The box around the closed lungs."""

    grid: SearchGrid
    """HU; what is not lung has the lungs' median HU, so that no wall outshines a nodule."""

    inside: Mask
    """bool [k, j, i]: in the closed lungs."""


def lung_region(grid: SearchGrid, lungs: Mask) -> LungRegion:
    """Cuts the lungs out of a grid.

    Args:
        grid: of the same extent as the mask, any resolution.
        lungs: bool [k, j, i], not empty.
    """
    shape = grid.hu.shape
    nearest = [
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, lungs.shape, strict=True)
    ]
    inside = lungs[np.ix_(*nearest)]
    box = _box(inside)
    hu, inside = grid.hu[box], inside[box]
    filled = np.where(inside, hu, np.median(hu[inside])).astype(np.float32)
    geometry: Geometry = grid.geometry.sub(
        [part.start for part in box[::-1]], [part.stop - part.start for part in box[::-1]]
    )
    return LungRegion(SearchGrid(filled, geometry), inside)


def closed_lungs(grid: SearchGrid) -> Mask:
    """Finds the lungs with what they enclose: vessels, nodules, bays of the pleura.

    Args:
        grid: about 3 mm; finer only costs time.

    Returns:
        bool [k, j, i]; all False if there is no lung.
    """
    aerated = _aerated(grid)
    closed = np.zeros(aerated.shape, bool)
    if not aerated.any():
        return closed
    spacing_kji = grid.geometry.spacing_mm[::-1]
    box = _box(aerated)
    for lung in _sides(aerated[box], grid.hu[box], spacing_kji):
        closed[box] |= _closed(lung, spacing_kji)
    closed[box] = ndimage.binary_fill_holes(closed[box])
    return closed


def lung_sides(grid: SearchGrid, lungs: Mask) -> NDArray[np.uint8]:
    """Tells the right lung from the left one.

    Args:
        grid: whose lungs they are, axes towards L, P and S.
        lungs: bool [k, j, i], what closed_lungs found there, not empty.

    Returns:
        uint8 [k, j, i]: RIGHT or LEFT in the lungs, 0 elsewhere.
    """
    spacing_kji = grid.geometry.spacing_mm[::-1]
    along_i = np.flatnonzero(lungs.any(axis=(0, 1)))
    middle = (along_i[0] + along_i[-1]) / 2
    aerated = _aerated(grid)
    cores = np.zeros(lungs.shape, np.uint8)
    for part in _sides(aerated, grid.hu, spacing_kji) if aerated.any() else []:
        _, _, columns = np.nonzero(part)
        across = columns.size and np.mean(columns > middle)
        if 0.1 < across < 0.9:  # both lungs in one part: they touch at the midline
            cores[part] = np.where(columns > middle, LEFT, RIGHT)
        elif columns.size:
            cores[part] = LEFT if across >= 0.9 else RIGHT
    if not cores.any():
        cores[lungs] = np.where(np.nonzero(lungs)[2] > middle, LEFT, RIGHT)
    index = ndimage.distance_transform_edt(
        cores == 0, sampling=spacing_kji, return_distances=False, return_indices=True
    )
    sides: NDArray[np.uint8] = np.where(lungs, cores[tuple(index)], 0).astype(np.uint8)
    return sides


def _aerated(grid: SearchGrid) -> Mask:
    """Air in volumes that can be a lung, with the airways that open into it."""
    voxel_ml = math.prod(grid.geometry.spacing_mm) / 1000
    labels, _ = ndimage.label(grid.hu < _AIR_BELOW_HU)
    size_ml = np.bincount(labels.ravel()) * voxel_ml
    size_ml[0] = 0
    at_side = np.union1d(labels[:, [0, -1]], labels[:, :, [0, -1]])
    lungs = []
    for label in np.flatnonzero(size_ml >= _LEAST_ML):
        limit = _OUTSIDE_BELOW_HU if label in at_side else _GAS_BELOW_HU
        if np.median(grid.hu[labels == label]) >= limit:
            lungs.append(label)
    least_ml = _LEAST_SHARE * max(size_ml[lungs], default=0.0)
    return np.isin(labels, [label for label in lungs if size_ml[label] >= least_ml])


def _sides(aerated: Mask, hu: NDArray[np.float32], spacing_kji: Sequence[float]) -> list[Mask]:
    """Parts the lungs and drops the large airways, so that closing spares the mediastinum.

    Each voxel goes to the nearest core; cores are what an erosion leaves.
    """
    depth_mm = ndimage.distance_transform_edt(aerated, sampling=spacing_kji)
    cores, count = ndimage.label(depth_mm > _CORE_DEPTH_MM)
    if count == 0:
        return [aerated]
    labels = np.arange(1, count + 1)
    sizes = np.bincount(cores.ravel())[1:]
    is_lung = sizes >= _LEAST_SHARE * sizes.max()
    is_airway = ~is_lung & (np.asarray(ndimage.median(hu, cores, labels)) < _AIRWAY_BELOW_HU)
    cores[~np.isin(cores, labels[is_lung | is_airway])] = 0
    index = ndimage.distance_transform_edt(
        cores == 0, sampling=spacing_kji, return_distances=False, return_indices=True
    )
    nearest = cores[tuple(index)]
    return [aerated & (nearest == label) for label in labels[is_lung]]


def _closed(lung: Mask, spacing_kji: Sequence[float]) -> Mask:
    """Closes a mask with a ball."""
    box = _box(lung)
    pad = [math.ceil(_CLOSING_MM / step) + 1 for step in spacing_kji]
    padded = np.pad(lung[box], [(n, n) for n in pad])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing_kji) <= _CLOSING_MM
    shrunk = ndimage.distance_transform_edt(near, sampling=spacing_kji) > _CLOSING_MM
    closed = lung.copy()
    closed[box] |= shrunk[tuple(slice(n, -n) for n in pad)]
    return closed


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around what is True.

    >>> _box(np.array([[False, False], [False, True]]))
    (slice(1, 2, None), slice(1, 2, None))
    """
    return tuple(ndimage.find_objects(mask.view(np.uint8))[0])
