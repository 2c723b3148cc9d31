"""Cuts crops whose axes k, j, i run along S, P, L, whatever the voxel order of the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.patch import sample, voxel_affine
from resmtnet.ct.volume import CTVolume

_PARALLEL = 0.9999
"""Least cosine of a voxel axis with a patient axis: 0.8 degrees, half a voxel over 32 mm."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """How to turn an array [k, j, i] upright without interpolation."""

    axes: tuple[int, int, int]
    """Axes of the array that run along S, P, L."""

    flipped: tuple[bool, bool, bool]
    """Whether they run against S, P, L."""

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the CT's voxels upright."""
        ends = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return np.ascontiguousarray(values.transpose(self.axes)[ends])


def turn_upright(direction: NDArray[np.float64]) -> Turn | None:
    """Return the turn of a grid, or None if its axes are not those of the patient.

    Args:
        direction: (3, 3), columns = LPS unit vectors of i, j, k.

    >>> turn_upright(np.diag([-1.0, -1.0, 1.0]))
    Turn(axes=(0, 1, 2), flipped=(False, True, True))
    """
    axes, flipped = [], []
    for along in (2, 1, 0):
        row = direction[along]
        voxel_axis = int(np.argmax(np.abs(row)))
        if abs(row[voxel_axis]) < _PARALLEL:
            return None
        axes.append(2 - voxel_axis)
        flipped.append(bool(row[voxel_axis] < 0))
    return Turn((axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]))


@dataclass(frozen=True, eq=False)
class UprightCrop:
    """Voxels around a point, axes along S, P, L."""

    hu: NDArray[np.int16]
    """int16 [k, j, i]."""

    spacing_kji_mm: Triple

    centre_kji: Triple
    """Voxel index of the point in the crop."""

    warnings: tuple[str, ...] = ()


def upright_crop(ct: CTVolume, centre_lps_mm: Sequence[float], edge_mm: float) -> UprightCrop:
    """Cut a cube around a point out of a CT, on its own voxels where its axes allow that.

    An oblique grid is interpolated linearly to its own spacing along the patient's axes.

    Args:
        ct: any grid.
        centre_lps_mm: (x, y, z).
        edge_mm: least width along each patient axis.
    """
    turn = turn_upright(ct.geometry.direction)
    if turn is None:
        return _interpolated(ct, centre_lps_mm, edge_mm)
    crop = ct.crop(centre_lps_mm, edge_mm)
    centre_kji = crop.geometry.lps_to_ijk(centre_lps_mm)[::-1]
    spacing, centre = [], []
    for axis, flip in zip(turn.axes, turn.flipped, strict=True):
        last = crop.hu.shape[axis] - 1
        centre.append(last - centre_kji[axis] if flip else centre_kji[axis])
        spacing.append(crop.geometry.spacing_mm[2 - axis])
    return UprightCrop(turn.apply(crop.hu), _triple(spacing), _triple(centre), crop.warnings)


def _interpolated(ct: CTVolume, centre_lps_mm: Sequence[float], edge_mm: float) -> UprightCrop:
    spacing = _spacing_along_patient(ct.geometry)
    half = [int(np.ceil(edge_mm / 2 / mm)) for mm in spacing]
    lines = [torch.arange(-n, n + 1) * mm for n, mm in zip(half, spacing, strict=True)]
    z, y, x = torch.meshgrid(*lines, indexing="ij")
    crop = ct.crop(centre_lps_mm, edge_mm * 3**0.5)
    affine = voxel_affine(crop.geometry, centre_lps_mm)
    hu = sample(torch.from_numpy(crop.hu), affine, torch.stack([x, y, z], -1))
    note = "the grid is oblique: interpolated along the patient's axes"
    values = hu.round().numpy().astype(np.int16)
    return UprightCrop(values, spacing, _triple(half), (*crop.warnings, note))


def _spacing_along_patient(geometry: Geometry) -> Triple:
    """Return the spacing, along S, P, L, of the voxel axis that is nearest to each."""
    nearest = [int(np.argmax(np.abs(geometry.direction[along]))) for along in (2, 1, 0)]
    return _triple([geometry.spacing_mm[axis] for axis in nearest])


def _triple(values: Sequence[float]) -> Triple:
    a, b, c = (float(value) for value in values)
    return a, b, c
