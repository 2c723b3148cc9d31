"""Parts of a CT as the browser draws them: a crop at full resolution, or all of it, coarser.

Both are NIfTI whose axes run right, anterior, superior, as NiiVue keeps its drawings; masks are
bits in that order. Nothing is kept here: the CT lies in the server's cache of open CTs.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from numpy.typing import NDArray

from resmtnet.ct import CTVolume, Geometry
from resmtnet.errors import InputError
from resmtnet.types import Point

CROP_MM = 96.0
"""Width of the crop around a nodule: the nodule, and what it touches."""
WHOLE_STEP_MM = 2.0
"""Voxels of the whole CT, at most about so large: 10 MB for a chest."""
LARGEST_MM = 200.0

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True, eq=False)
class Picture:
    """A box of the CT as it is drawn."""

    hu: NDArray[np.int16]
    """[k, j, i], as in the CT."""
    geometry: Geometry
    """Of these voxels."""

    def nifti(self) -> bytes:
        """Return it as an uncompressed NIfTI file with axes right, anterior, superior."""
        affine = _affine(self.geometry)
        image = nibabel.Nifti1Image(self.hu.transpose(2, 1, 0), affine)
        canonical = nibabel.as_closest_canonical(image)
        canonical.header.set_xyzt_units("mm")
        data: bytes = canonical.to_bytes()
        return data

    def pack(self, mask: NDArray[np.uint8]) -> bytes:
        """Return a mask [k, j, i] of this box as bits, in the order of the voxels of `nifti`."""
        drawn = apply_orientation(mask.transpose(2, 1, 0) != 0, self._to_drawn())
        return np.packbits(np.ravel(drawn, order="F")).tobytes()

    def unpack(self, bits: bytes) -> NDArray[np.uint8]:
        """Return the mask [k, j, i] of bits that `pack` has made, or that a reader has drawn.

        Raises:
            InputError: they are not of this box.
        """
        to_drawn = self._to_drawn()
        size = np.array(self.geometry.size_ijk)
        shape = np.empty(3, int)
        shape[to_drawn[:, 0].astype(int)] = size
        count = int(size.prod())
        if len(bits) != -(-count // 8):
            raise InputError(f"A mask of {len(bits)} bytes is not one of {count} voxels.")
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=count)
        drawn = flat.reshape(tuple(shape), order="F")
        mask = apply_orientation(drawn, ornt_transform(_RAS, self._orientation()))
        return np.ascontiguousarray(mask.transpose(2, 1, 0)).astype(np.uint8)

    def _orientation(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = io_orientation(_affine(self.geometry))
        return found

    def _to_drawn(self) -> NDArray[np.float64]:
        return np.asarray(ornt_transform(self._orientation(), _RAS))


def crop_picture(ct: CTVolume, centre_lps_mm: Point, extent_mm: float = CROP_MM) -> Picture:
    """Return the voxels around a point at full resolution, within the CT.

    Raises:
        PointError: the point is not three finite numbers.
        InputError: the extent is too large.
    """
    if not 0 < extent_mm <= LARGEST_MM:
        raise InputError(f"extent {extent_mm:g}: up to {LARGEST_MM:g} mm are drawn.")
    crop = ct.crop(centre_lps_mm, extent_mm)
    start = np.maximum(crop.start_ijk, 0)
    stop = np.minimum(np.add(crop.start_ijk, crop.geometry.size_ijk), ct.geometry.size_ijk)
    if (stop <= start).any():
        raise InputError("The place lies outside the CT.")
    i, j, k = start - crop.start_ijk
    ni, nj, nk = stop - start
    hu = crop.hu[k : k + nk, j : j + nj, i : i + ni]
    return Picture(hu, ct.geometry.sub((int(start[0]), int(start[1]), int(start[2])), (ni, nj, nk)))


def whole_picture(ct: CTVolume, step_mm: float = WHOLE_STEP_MM) -> Picture:
    """Return the whole CT with every n-th voxel of each axis: enough to find one's way."""
    grid = ct.geometry
    steps = [max(1, int(step_mm / mm + 0.5)) for mm in grid.spacing_mm]
    i, j, k = steps
    hu = np.ascontiguousarray(ct.array()[::k, ::j, ::i])
    spacing = tuple(mm * step for mm, step in zip(grid.spacing_mm, steps, strict=True))
    size = hu.shape[::-1]
    return Picture(
        hu,
        Geometry(
            (size[0], size[1], size[2]),
            (spacing[0], spacing[1], spacing[2]),
            grid.origin_lps_mm,
            grid.direction,
        ),
    )


def mask_in(picture: Picture, mask: NDArray[np.uint8], mask_grid: Geometry) -> NDArray[np.uint8]:
    """Return a mask on the voxels of a picture, uint8 [k, j, i].

    Args:
        picture: drawn.
        mask: [k, j, i] on voxels of the same CT.
        mask_grid: of the mask.
    """
    found = np.zeros(picture.geometry.shape_kji, np.uint8)
    kji = np.argwhere(mask)
    if not len(kji):
        return found
    ijk = picture.geometry.lps_to_ijk(mask_grid.ijk_to_lps(kji[:, ::-1])).round().astype(int)
    inside = ((ijk >= 0) & (ijk < picture.geometry.size_ijk)).all(1)
    i, j, k = ijk[inside].T
    found[k, j, i] = 1
    return found


def to_ras(point_lps_mm: Point) -> Point:
    """Return a point as the browser has it; the same function leads back.

    >>> to_ras((1.0, -2.0, 3.0))
    (-1.0, 2.0, 3.0)
    """
    x, y, z = point_lps_mm
    return -x, -y, z


def _affine(grid: Geometry) -> NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, :3] = grid.direction * grid.spacing_mm
    lps[:3, 3] = grid.origin_lps_mm
    return np.asarray(_TO_RAS @ lps)
