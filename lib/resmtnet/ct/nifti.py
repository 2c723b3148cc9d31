"""Reads what ITK does not tell of a NIfTI file, and maps the voxels of one without compression.

References:
    https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields/nifti1fields_pages/qsform.html
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.source import Slab, box_kji, chest_warnings, sampling_step, to_hu
from resmtnet.ct.text_header import check_voxels
from resmtnet.errors import VolumeError

_SAME_PLACE_MM = 0.1
"""sform and qform of one grid differ by rounding only, up to this at its corners."""
_UNIT_MM = {1: ("meter", 1000.0), 3: ("micron", 1e-3)}
"""By the lower three bits of xyzt_units; 0 (not said) and 2 are mm."""
_MOST_DEFLATED = 1100
_CHUNK_BYTES = 2**20
_MOST_TRAILING_BYTES = 2**26
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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

    def sampled_warnings(self) -> tuple[str, ...]:
        """What a sample of the voxels tells against a CT of the chest."""
        step = sampling_step(self.stored.size)
        sample = np.asarray(self.stored[::step, ::step, ::step])
        hu, _ = to_hu(sample, self.slope, self.intercept)
        return chest_warnings(hu, self.stored.size)

    def scaled(self) -> NDArray[Any]:
        """All values [k, j, i] without the limits of int16, as a label map needs them."""
        if self.slope == 1.0 and self.intercept == 0.0:
            return self.stored
        return np.asarray(self.stored * self.slope + self.intercept)


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
        dtype, slope, intercept = np.dtype(proxy.dtype), float(proxy.slope), float(proxy.inter)
        if dtype.kind not in "iuf" or not (math.isfinite(slope) and math.isfinite(intercept)):
            raise VolumeError(
                f"{path.name}: its voxels are {dtype}, times {slope} plus {intercept}; real "
                "numbers are needed."
            )
        if path.name.lower().endswith(".gz"):
            stored = _inflated(path, int(proxy.offset), math.prod(geometry.size_ijk), dtype)
        else:
            # nibabel has (i, j, k) with i fastest: the same memory as [k, j, i].
            stored = np.asanyarray(proxy.get_unscaled()).T
        stored = stored.reshape(geometry.shape_kji)
    except VolumeError:
        raise
    except Exception as error:  # nibabel and gzip have no common base for a damaged file.
        reason = " ".join(str(error).split())
        raise VolumeError(f"{path.name} is truncated or damaged: {reason}") from error
    return NiftiSource(stored, slope, intercept, geometry, warnings)


def _inflated(path: Path, offset: int, n_voxels: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The voxels of a compressed file, which is read to its end for the sake of its checksum."""
    needed = n_voxels * dtype.itemsize
    if offset < 0 or offset + needed > _MOST_DEFLATED * path.stat().st_size + _CHUNK_BYTES:
        raise VolumeError(
            f"{path.name} is truncated or damaged: {path.stat().st_size} compressed bytes cannot "
            f"hold {needed} bytes of voxels. Transfer the file again."
        )
    try:
        with gzip.open(path) as file:
            file.seek(offset)
            data = file.read(needed)
            if len(data) < needed:
                raise VolumeError(
                    f"{path.name} is truncated: {len(data)} of {needed} bytes of voxels. Transfer "
                    "the file again."
                )
            trailing = 0
            while chunk := file.read(_CHUNK_BYTES):
                trailing += len(chunk)
                if trailing > _MOST_TRAILING_BYTES:
                    raise VolumeError(f"{path.name} goes on after its voxels; it is damaged.")
    except (OSError, EOFError, zlib.error) as error:
        raise VolumeError(
            f"{path.name} is truncated or damaged, and its voxels cannot be trusted: {error}. "
            "Transfer the file again."
        ) from error
    return np.frombuffer(data, dtype)


def is_nifti_2(path: Path) -> bool:
    """Whether a file is NIfTI-2, which ITK cannot read."""
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else Path.open)(path, "rb") as file:
            start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return start in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")


def nifti_geometry(path: Path) -> tuple[list[int], Any]:
    """Size, and a function that makes the grid, of a file that ITK cannot open; by nibabel.

    Raises:
        VolumeError: it is no NIfTI file.
    """
    image = _load(path)
    size = [int(n) for n in image.shape]

    def grid() -> Geometry:
        affine = _TO_LPS @ _in_mm(image.affine, image.header)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if not (np.isfinite(spacing).all() and spacing.min() > 0):
            raise VolumeError(
                f"the voxel spacing is {tuple(spacing.tolist())} mm (i, j, k); each must be "
                "finite and above 0. Correct the header of the image."
            )
        x, y, z = (float(mm) for mm in affine[:3, 3])
        i, j, k = size[:3]
        di, dj, dk = (float(mm) for mm in spacing)
        return Geometry((i, j, k), (di, dj, dk), (x, y, z), affine[:3, :3] / spacing)

    return size, grid


def check_header(path: Path, geometry: Geometry) -> tuple[str, ...]:
    """What ITK puts right in a NIfTI header without a word.

    Args:
        path: a .nii or .nii.gz file.
        geometry: its grid as ITK reads it.

    Returns:
        A warning if the header gives no orientation, or two that differ, or another unit.

    Raises:
        VolumeError: a voxel spacing is zero, or one of two orientations is the mirror image of
            the other.
    """
    image = _load(path)
    try:
        header = _raw_header(path, type(image.header))
        spacing = tuple(float(x) for x in header["pixdim"][1:4])
        codes = int(header["sform_code"]), int(header["qform_code"])
        forms = [
            _in_mm(form, image.header)
            for form in (image.header.get_sform(coded=True)[0], _qform(image))
            if form is not None
        ]
    except Exception as error:
        raise VolumeError(f"{path.name}: its header is damaged: {error}") from error
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        raise VolumeError(
            f"{path.name}: the voxel spacing is {spacing} mm (i, j, k); each must be finite and "
            "above 0. Correct the header of the image."
        )
    warnings = _unit_warning(image.header)
    if codes == (0, 0):
        return (
            *warnings,
            "the NIfTI header gives no orientation (sform_code and qform_code are 0): left and "
            "right are not known.",
        )
    if len(forms) == 2:
        _check_same_side(path, *forms)
    lps = geometry.ijk_to_lps(corners := _corners(geometry))
    apart = max(
        float(np.abs((corners @ form[:3, :3].T + form[:3, 3]) * (-1, -1, 1) - lps).max())
        for form in (*forms, _in_mm(image.affine, image.header))
    )
    if not apart <= _SAME_PLACE_MM:
        return (
            *warnings,
            "sform, qform and spacing of the NIfTI header disagree: read as ITK and 3D Slicer do.",
        )
    return warnings


def _corners(geometry: Geometry) -> NDArray[np.float64]:
    """(4, 3) indices: the first voxel, and the last one along each axis."""
    return np.concatenate([np.zeros((1, 3)), np.diag(np.subtract(geometry.size_ijk, 1.0))])


def _qform(image: Any) -> Any:
    return image.header.get_qform(coded=True)[0]


def _check_same_side(path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64]) -> None:
    """Refuses two orientations of which no one can know which side of the patient is meant."""
    cosines = [form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform)]
    same_way = np.einsum("ij,ij->j", *cosines)
    if not ((same_way > 0).all() and np.linalg.det(cosines[0]) * np.linalg.det(cosines[1]) > 0):
        axes = ["ijk"[n] for n in range(3) if not same_way[n] > 0]
        raise VolumeError(
            f"{path.name}: sform and qform of the NIfTI header point to opposite sides of the "
            f"patient (voxel axis {', '.join(axes) or 'k'}): left and right would be a guess. "
            "Convert the original DICOM series again."
        )


def _in_mm(affine: NDArray[np.float64], header: Any) -> NDArray[np.float64]:
    """A copy of an affine with its lengths in mm."""
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= _unit(header)[1]
    return scaled


def _unit(header: Any) -> tuple[str, float]:
    return _UNIT_MM.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))


def _unit_warning(header: Any) -> tuple[str, ...]:
    name, factor = _unit(header)
    return () if factor == 1.0 else (f"the grid of the image is in {name}: converted to mm.",)


def _load(path: Path) -> Any:
    import nibabel as nib

    try:
        kind = nib.Nifti2Image if is_nifti_2(path) else nib.Nifti1Image
        # Not nib.load, which does not find a file whose suffix is in mixed case.
        image = kind.from_file_map({"image": nib.FileHolder(filename=str(path))})
        check_voxels(path, math.prod(int(n) for n in image.shape))
    except VolumeError:
        raise
    except Exception as error:  # nibabel has no common base for what a damaged header raises.
        reason = " ".join(str(error).split())
        raise VolumeError(f"{path.name} is not a NIfTI file that can be read: {reason}") from error
    return image


def _raw_header(path: Path, header_type: Any) -> Any:
    """The header as it is in the file: nibabel makes a spacing of 0 one of 1 mm when it loads."""
    from nibabel.openers import ImageOpener

    with ImageOpener(path) as file:
        return header_type.from_fileobj(file, check=False)
