"""Lungs, body and distances of a chest CT on one grid, for the rules of ct_places.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resmtnet import CTVolume
from resmtnet.ct.geometry import Geometry
from resmtnet.errors import InputError
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import closed_lungs

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]

GRID_MM = 1.4
"""In-plane spacing of the search; slices stay."""


@dataclass(eq=False)
class Anatomy:
    """What the rules look at, on one grid."""

    hu: Field
    """[k, j, i]"""
    geometry: Geometry
    body: Mask
    lungs: Mask
    """Closed: with the vessels, the airways and what borders on the pleura."""
    in_lung_mm: Field
    """Depth inside the lungs, 0 outside."""
    to_lung_mm: Field
    """Distance from the lungs, 0 inside."""
    to_skin_mm: Field
    """Depth inside the body, 0 outside."""
    between: Mask
    """Outside the lungs, with lung on the right and on the left in the same row."""
    midline_mm: float
    """x of the middle of the lungs."""
    _shapes: dict[float, Field] = field(default_factory=dict)

    @classmethod
    def of(cls, ct: CTVolume) -> Anatomy:
        """Find body and lungs.

        Raises:
            InputError: the CT is not stored in axial slices along L, P and S, or shows no lung.
        """
        if not np.allclose(ct.geometry.direction, np.eye(3), atol=1e-3):
            raise InputError(
                f"{ct.image_id}: its axes {ct.geometry.direction.tolist()} are not L, P, S; the "
                "places are looked for in axial CTs only"
            )
        hu, geometry = _coarser(ct)
        coarse = SearchGrid.of(ct, 3.0)
        lungs = _nearest(closed_lungs(coarse), hu.shape)
        if not lungs.any():
            raise InputError(f"{ct.image_id} shows no lung")
        parts, _ = ndimage.label(ndimage.binary_opening(hu > -500, iterations=2))
        body = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        for k, plane in enumerate(body | lungs):
            body[k] = ndimage.binary_fill_holes(plane)
        spacing = geometry.spacing_mm[::-1]
        x = geometry.ijk_to_lps(np.argwhere(lungs)[:, ::-1])[:, 0]
        return cls(
            hu,
            geometry,
            body,
            lungs,
            distance_mm(lungs, spacing),
            distance_mm(~lungs, spacing),
            distance_mm(body, spacing),
            _between(lungs),
            float((x.min() + x.max()) / 2),
        )

    def across_mm(self) -> Field:
        """Return |x - midline| of every column [i]."""
        i, _, _ = self.geometry.size_ijk
        x = self.geometry.origin_lps_mm[0] + np.arange(i) * self.geometry.spacing_mm[0]
        return np.asarray(np.abs(x - self.midline_mm), np.float32)

    def rows_behind_mm(self) -> Field:
        """Return how far every voxel's row lies behind the middle of its slice's lungs [k, j, 1].

        NaN where a slice shows no lung.
        """
        rows = np.arange(self.hu.shape[1]) * self.geometry.spacing_mm[1]
        found = np.full((*self.hu.shape[:2], 1), np.nan, np.float32)
        for k, plane in enumerate(self.lungs):
            inside = np.flatnonzero(plane.any(1))
            if len(inside):
                found[k, :, 0] = rows - rows[inside[[0, -1]]].mean()
        return found

    def greatest(self, radius_mm: float) -> Field:
        """Return the greatest HU in a box of a half edge around every voxel."""
        return np.asarray(ndimage.maximum_filter(self.hu, self._box(radius_mm)))

    def least(self, radius_mm: float) -> Field:
        """Return the least HU in a box of a half edge around every voxel."""
        return np.asarray(ndimage.minimum_filter(self.hu, self._box(radius_mm)))

    def curvatures(self, sigma_mm: float) -> Field:
        """Return the three eigenvalues of the Hessian, HU, lowest first [k, j, i, 3], in the lungs.

        Multiplied by sigma squared; 0 outside the lungs.
        """
        if sigma_mm not in self._shapes:
            self._shapes[sigma_mm] = _eigenvalues(self.hu, self.lungs, self._sigmas(sigma_mm))
        return self._shapes[sigma_mm]

    def _sigmas(self, sigma_mm: float) -> tuple[float, ...]:
        return tuple(sigma_mm / s for s in self.geometry.spacing_mm[::-1])

    def _box(self, radius_mm: float) -> tuple[int, ...]:
        return tuple(2 * max(1, round(radius_mm / s)) + 1 for s in self.geometry.spacing_mm[::-1])


def distance_mm(mask: Mask, spacing_kji: tuple[float, ...]) -> Field:
    """Return the depth of every voxel inside a mask, 0 outside."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing_kji), np.float32)


def _coarser(ct: CTVolume) -> tuple[Field, Geometry]:
    """Average pixels in plane to about GRID_MM."""
    grid, hu = ct.geometry, ct.array()
    step = max(1, round(GRID_MM / grid.spacing_mm[0]))
    j, i = (n // step for n in hu.shape[1:])
    cut = np.clip(hu[:, : j * step, : i * step], -1024, 3071).astype(np.float32)
    mean = cut.reshape(len(hu), j, step, i, step).mean((2, 4))
    dx, dy, dz = grid.spacing_mm
    x, y, z = grid.ijk_to_lps(((step - 1) / 2, (step - 1) / 2, 0))
    spacing = (dx * step, dy * step, dz)
    return mean, Geometry((i, j, len(hu)), spacing, (float(x), float(y), float(z)), grid.direction)


def _nearest(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Put a mask of the same extent on a finer grid."""
    index = [
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, mask.shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*index)])


def _between(lungs: Mask) -> Mask:
    """Voxels with lung on their right and on their left in the same row."""
    right = np.maximum.accumulate(lungs, axis=2)
    left = np.maximum.accumulate(lungs[..., ::-1], axis=2)[..., ::-1]
    return np.asarray(right & left & ~lungs)


def _eigenvalues(hu: Field, where: Mask, sigmas: tuple[float, ...]) -> Field:
    values = np.zeros((*hu.shape, 3), np.float32)
    box = ndimage.find_objects(where.view(np.uint8))[0]
    clipped, inside = np.clip(hu[box], -1000, 200), where[box]
    hessian = np.empty((int(inside.sum()), 3, 3), np.float32)
    for a in range(3):
        for b in range(a, 3):
            order = [int(n == a) + int(n == b) for n in range(3)]
            second = ndimage.gaussian_filter(clipped, sigmas, order=order) * sigmas[a] * sigmas[b]
            hessian[:, a, b] = hessian[:, b, a] = second[inside]
    values[where] = np.linalg.eigvalsh(hessian)
    return values
