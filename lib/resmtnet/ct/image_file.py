"""A CT in one image file, read with ITK, and memory mapped where it is not compressed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.cache import VolumeCache
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.source import ArraySource, VoxelSource, hu_warnings, to_hu
from resmtnet.ct.text_header import TextHeader, check_voxels, meta_voxels, read_text_header
from resmtnet.errors import VolumeError

ALLOWED_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

_DETACHED = (".nhdr", ".mhd")
"""The voxels are in another file, whose changes the header does not show: never cached."""

_ITK_ERRORS = (RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
_SPACING_MM = (0.01, 100.0)
"""What the voxels of a CT can be apart; beyond it the unit is not mm."""

_LARGE = 2**27
"""Voxels of 512 slices of 512 x 512."""
_MOST_PER_BYTE = 100
"""Voxels that a byte of a compressed CT can hold: noise cannot be packed, and a CT has some."""
_MOST_HEADER_BYTES = 2**24
_NRRD_END = re.compile(rb"\n\r?\n")
_NRRD_DATA_FILE = re.compile(rb"(?:^|[\r\n])\s*data\s*file\s*:(?!=)", re.IGNORECASE)
_META_DATA_FILE = re.compile(rb"ElementDataFile(?![ \t]*=[ \t]*(?:LOCAL|Local|local)[ \t]*\r?\n)")
"""Wherever it stands: MetaIO reads on behind a line that only looks like this field."""


def image_suffix(path: Path) -> str | None:
    """The suffix as the name has it, if it is one of `ALLOWED_SUFFIXES` in any case.

    Example:
        >>> image_suffix(Path("lung.1.NII.gz"))
        '.NII.gz'
        >>> image_suffix(Path("lung.png")) is None
        True
    """
    for suffix in sorted(ALLOWED_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[-len(suffix) :]
    return None


def is_detached(path: Path) -> bool:
    """Whether the voxels are in another file than this header.

    Example:
        >>> is_detached(Path("ct.MHD")), is_detached(Path("ct.mha"))
        (True, False)
    """
    return path.suffix.lower() in _DETACHED


def check_whole(path: Path) -> None:
    """Refuse a file whose header sends the reader to another one; to be called for an upload.

    Its header is read without ITK, which opens whatever file the header names.

    Raises:
        VolumeError: its voxels are not in it, as far as can be told.

    References:
        https://teem.sourceforge.net/nrrd/format.html#detached
        https://itk.org/Wiki/ITK/MetaIO/Documentation
    """
    suffix = path.suffix.lower()
    if suffix not in (".nrrd", ".mha", *_DETACHED):
        return
    named = suffix in _DETACHED
    with path.open("rb") as file:
        if suffix == ".nrrd":
            head = file.read(_MOST_HEADER_BYTES)
            head = head[: end.start()] if (end := _NRRD_END.search(head)) else head
            named = len(head) == _MOST_HEADER_BYTES or bool(_NRRD_DATA_FILE.search(head))
        elif suffix == ".mha" and path.stat().st_size:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                named = bool(_META_DATA_FILE.search(content))
    if named:
        raise VolumeError(
            f"{path.name}: its header names another file for the voxels; send one file that holds "
            "header and voxels (.nrrd, .nii, .nii.gz or .mha)."
        )


def open_image(path: Path, spacing_ijk_mm: Sequence[float] | None = None) -> VoxelSource:
    """Opens an image file; its suffix is one of `ALLOWED_SUFFIXES`.

    An uncompressed NIfTI is memory mapped. Others are decoded once, into the cache on disk.

    Args:
        path: the file.
        spacing_ijk_mm: distance between voxel centres along i, j and k of a file that does not
            give it.

    Raises:
        VolumeError: it cannot be read, or is not one 3D volume on an orthogonal grid.
    """
    if not path.is_file():
        raise VolumeError(f"{path} is not a file.")
    suffix = (image_suffix(path) or "").lower()
    if suffix == ".nii":
        from resmtnet.ct.nifti import open_nifti

        source = open_nifti(path, read_geometry(path, spacing_ijk_mm))
        return replace(source, warnings=source.warnings + source.sampled_warnings())
    if is_detached(path) or spacing_ijk_mm is not None:
        return _decode(path, spacing_ijk_mm)
    voxels, extra = VolumeCache().get(path, lambda: _to_entry(_decode(path)))
    return _from_entry(voxels, extra)


def read_geometry(path: Path, spacing_ijk_mm: Sequence[float] | None = None) -> Geometry:
    """The grid of an image file as ITK reads it, from the header only, in mm.

    Args:
        path: the file.
        spacing_ijk_mm: of a NRRD or MetaImage file that does not give its own.

    Raises:
        VolumeError: it cannot be read, or is not one 3D volume on an orthogonal grid.
    """
    return _geometry(path, _header(path, spacing_ijk_mm), spacing_ijk_mm)


def try_header(path: Path, folder: Path) -> None:
    """Read the header of an image: what `ct.apart` does with an upload.

    Args:
        path: of the file.
        folder: nothing is written there.

    Raises:
        VolumeError: it is none of a CT, or claims far more voxels than its bytes can hold.
    """
    claimed, size = math.prod(read_geometry(path).size_ijk), path.stat().st_size
    if claimed > _LARGE and claimed > _MOST_PER_BYTE * size:
        raise VolumeError(
            f"{path.name} claims {claimed:,} voxels in {size:,} bytes, which no CT can be packed "
            "into: it is damaged, or made to fill memory and disk."
        )


def _header(path: Path, spacing_ijk_mm: Sequence[float] | None) -> TextHeader | None:
    """The text header of a NRRD or MetaImage file; None for NIfTI, which always has a spacing."""
    suffix = (image_suffix(path) or "").lower()
    header = None if suffix.startswith(".nii") else read_text_header(path, suffix)
    if header is not None and not header.has_spacing and spacing_ijk_mm is None:
        raise VolumeError(
            f"{path.name} does not give the distance between its voxels (spacing), without which "
            "nothing can be measured. Give it as --spacing x,y,z (mm), or save the image with it."
        )
    if spacing_ijk_mm is not None and (header is None or header.has_spacing):
        raise VolumeError(
            f"{path.name} gives its own voxel spacing; --spacing is for files that give none."
        )
    return header


def _geometry(
    path: Path, header: TextHeader | None, spacing_ijk_mm: Sequence[float] | None
) -> Geometry:
    try:
        size, grid = _information(path)
        _check_shape(path, size[:-1], size[-1])
        geometry = grid()
        if spacing_ijk_mm is not None:
            di, dj, dk = spacing_ijk_mm
            geometry = replace(geometry, spacing_mm=(di, dj, dk))
        elif header is not None and header.unit_mm != 1.0:
            dx, dy, dz = (header.unit_mm * mm for mm in geometry.spacing_mm)
            x, y, z = (header.unit_mm * mm for mm in geometry.origin_lps_mm)
            geometry = replace(geometry, spacing_mm=(dx, dy, dz), origin_lps_mm=(x, y, z))
    except VolumeError as error:
        text = str(error)
        raise error if path.name in text else VolumeError(f"{path.name}: {text}") from None
    check_voxels(path, math.prod(geometry.size_ijk))
    low, high = min(geometry.spacing_mm), max(geometry.spacing_mm)
    if not (_SPACING_MM[0] <= low and high <= _SPACING_MM[1]):
        raise VolumeError(
            f"{path.name}: the voxel spacing is {geometry.spacing_mm} mm (i, j, k); a CT has "
            f"{_SPACING_MM[0]} to {_SPACING_MM[1]} mm. Correct the header, or its unit."
        )
    return geometry


def _information(path: Path) -> tuple[list[int], Callable[[], Geometry]]:
    """Size along all axes and the number of components, and a function that makes the grid."""
    suffix = image_suffix(path) or ""
    if suffix.lower().startswith(".nii"):
        from resmtnet.ct.nifti import is_nifti_2, nifti_geometry

        # ITK knows no NIfTI-2, and no suffix in mixed case.
        if suffix not in (suffix.lower(), suffix.upper()) or is_nifti_2(path):
            sizes, grid = nifti_geometry(path)
            return [*sizes, 1], grid
    reader = _read_information(path)
    size = [int(reader.GetDimensions(axis)) for axis in range(reader.GetNumberOfDimensions())]

    def of_itk() -> Geometry:
        return Geometry(
            (size[0], size[1], size[2]),
            tuple(reader.GetSpacing(axis) for axis in range(3)),
            tuple(reader.GetOrigin(axis) for axis in range(3)),
            np.array([reader.GetDirection(axis)[:3] for axis in range(3)]).T,
        )

    return [*size, int(reader.GetNumberOfComponents())], of_itk


def _read_information(path: Path) -> Any:
    """The ImageIO of ITK that has read the header of a file, chosen by the suffix in any case."""
    import itk

    suffix = (image_suffix(path) or "").lower()
    kind = {"n": itk.NiftiImageIO, "r": itk.NrrdImageIO, "m": itk.MetaImageIO}
    try:
        reader = kind["n" if suffix.startswith(".nii") else "m" if ".m" in suffix else "r"].New()
        if suffix.startswith(".n") and not reader.CanReadFile(str(path)):
            raise _damaged(path, "its header does not fit its file name extension")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except _ITK_ERRORS as error:
        raise _itk_error(path, error) from error
    return reader


def _check_shape(path: Path, size: list[int], n_components: int) -> None:
    if n_components != 1:
        raise VolumeError(
            f"{path.name} has {n_components} numbers per voxel (colour or vectors); "
            "a CT has one, in HU."
        )
    if len(size) > 3 and max(size[3:]) > 1:
        raise VolumeError(
            f"{path.name} has {len(size)} dimensions {tuple(size)}; one 3D volume is needed. "
            "Save the phase to be read as a separate file."
        )
    if len(size) < 3 or min(size[:3]) < 2:
        raise VolumeError(
            f"{path.name} has the size {tuple(size)}; a CT volume needs at least 2 voxels along "
            "each of 3 axes."
        )


def _decode(path: Path, spacing_ijk_mm: Sequence[float] | None = None) -> ArraySource:
    """The whole volume as int16 HU."""
    header = _header(path, spacing_ijk_mm)
    geometry = _geometry(path, header, spacing_ijk_mm)
    if header is None:
        # Not by ITK: it reads a truncated file without a word, and a NaN as 0.
        from resmtnet.ct.nifti import open_nifti

        source = open_nifti(path, geometry)
        hu, found = source.read((0, 0, 0), geometry.size_ijk)
        found = source.warnings + found
    else:
        voxels = None
        if ".m" in (image_suffix(path) or "").lower():
            voxels = meta_voxels(header, geometry.size_ijk)
        hu, found = to_hu(_read_with_itk(path) if voxels is None else voxels)
        found = header.warnings + found
    return ArraySource(hu, geometry, found + hu_warnings(hu))


def _read_with_itk(path: Path) -> NDArray[Any]:
    """Voxels [k, j, i]: int16, or float32 for any other type."""
    import itk

    try:
        io = _read_information(path)
        short = io.GetComponentType() == itk.CommonEnums.IOComponent_SHORT
        image_type = itk.Image[itk.SS if short else itk.F, 3]
        reader = itk.ImageFileReader[image_type].New(FileName=str(path), ImageIO=io)
        reader.Update()
        return np.asarray(itk.array_from_image(reader.GetOutput()))
    except _ITK_ERRORS as error:
        raise _itk_error(path, error) from error


def _to_entry(source: ArraySource) -> tuple[NDArray[np.int16], dict[str, Any]]:
    grid = source.geometry
    return source.hu, {
        "size_ijk": grid.size_ijk,
        "spacing_mm": grid.spacing_mm,
        "origin_lps_mm": grid.origin_lps_mm,
        "direction": grid.direction.tolist(),
        "warnings": source.warnings,
    }


def _from_entry(voxels: NDArray[np.int16], extra: dict[str, Any]) -> ArraySource:
    geometry = Geometry(
        extra["size_ijk"], extra["spacing_mm"], extra["origin_lps_mm"], extra["direction"]
    )
    return ArraySource(voxels, geometry, tuple(extra["warnings"]))


def _itk_error(path: Path, error: Exception) -> VolumeError:
    """ITK's message in one line; its text for a shear does not tell what to do."""
    if "orthonormal" in str(error):
        return VolumeError(
            f"{path.name}: the voxel axes are not orthogonal: a sheared grid cannot be read. "
            "Resample the image to an orthogonal grid."
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _damaged(path, lines[-1] if lines else "ITK cannot read it")


def _damaged(path: Path, reason: str) -> VolumeError:
    return VolumeError(f"{path.name} is damaged, or not a {image_suffix(path)} image: {reason}.")
