"""Reads what ITK does not tell of a NIfTI file, and maps the voxels of one without compression."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.source import Slab, box_kji, to_hu
from resmtnet.errors import VolumeError

_SAME_PLACE_MM = 0.1
"""sform and qform of one grid differ by rounding only, up to this at its corners."""


@dataclass(frozen=True, eq=False)
class NiftiSource:
    """Voxels of a NIfTI file as stored; a `VoxelSource`."""

    stored: NDArray[Any]
    """[k, j, i], the stored type; mapped from an uncompressed file."""

    slope: float
    intercept: float
    geometry: Geometry
    warnings: tuple[str, ...]

    def read(self, start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]) -> Slab:
        """The voxels of a box inside the grid."""
        values = self.stored[box_kji(start_ijk, size_ijk)]
        return Slab(*to_hu(np.asarray(values), self.slope, self.intercept))


def open_nifti(path: Path, geometry: Geometry) -> NiftiSource:
    """Maps the voxels of a .nii file, or decompresses those of a .nii.gz file.

    Args:
        path: the file.
        geometry: its grid as ITK reads it.

    Raises:
        VolumeError: the file is truncated or its header impossible.
    """
    warnings = check_header(path, geometry)
    try:
        proxy = _load(path).dataobj
        # nibabel has (i, j, k) with i fastest: the same memory as [k, j, i].
        stored = np.asanyarray(proxy.get_unscaled()).T
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise VolumeError(f"{path.name} is truncated or damaged: {reason}") from error
    return NiftiSource(
        stored.reshape(geometry.shape_kji),
        float(proxy.slope),
        float(proxy.inter),
        geometry,
        warnings,
    )


def check_header(path: Path, geometry: Geometry) -> tuple[str, ...]:
    """What ITK puts right in a NIfTI header without a word.

    Args:
        path: a .nii or .nii.gz file.
        geometry: its grid as ITK reads it.

    Returns:
        A warning if the header gives no orientation, or two that differ.

    Raises:
        VolumeError: a voxel spacing is zero.
    """
    image = _load(path)
    header = _raw_header(path, type(image.header))
    spacing = tuple(float(x) for x in header["pixdim"][1:4])
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        raise VolumeError(
            f"{path.name}: the voxel spacing is {spacing} mm (i, j, k); each must be finite and "
            "above 0. Correct the header of the image."
        )
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        return (
            "the NIfTI header gives no orientation (sform_code and qform_code are 0): left and "
            "right are not known.",
        )
    corners = np.array([(0, 0, 0), geometry.size_ijk], dtype=np.float64)
    ras_mm = corners @ image.affine[:3, :3].T + image.affine[:3, 3]
    apart = np.abs(ras_mm * (-1, -1, 1) - geometry.ijk_to_lps(corners)).max()
    if apart > _SAME_PLACE_MM:
        return (
            "sform, qform and spacing of the NIfTI header disagree: read as ITK and 3D Slicer do.",
        )
    return ()


def _load(path: Path) -> Any:
    import nibabel as nib

    try:
        return nib.load(path)
    except Exception as error:  # nibabel has no common base for what a damaged header raises.
        reason = " ".join(str(error).split())
        raise VolumeError(f"{path.name} is not a NIfTI file that can be read: {reason}") from error


def _raw_header(path: Path, header_type: Any) -> Any:
    """The header as it is in the file: nibabel makes a spacing of 0 one of 1 mm when it loads."""
    from nibabel.openers import ImageOpener

    with ImageOpener(path) as file:
        return header_type.from_fileobj(file, check=False)
