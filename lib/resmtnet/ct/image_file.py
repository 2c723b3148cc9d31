"""A CT in one image file, read with ITK, and memory mapped where it is not compressed."""

from __future__ import annotations

import re
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.cache import VolumeCache
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.source import ArraySource, VoxelSource, hu_warnings, to_hu
from resmtnet.errors import VolumeError

ALLOWED_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

_DETACHED = (".nhdr", ".mhd")
"""The voxels are in another file, whose changes the header does not show: never cached."""

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


def open_image(path: Path) -> VoxelSource:
    """Opens an image file; its suffix is one of `ALLOWED_SUFFIXES`.

    An uncompressed NIfTI is memory mapped. Others are decoded once, into the cache on disk.

    Raises:
        VolumeError: it cannot be read, or is not one 3D volume on an orthogonal grid.
    """
    if not path.is_file():
        raise VolumeError(f"{path} is not a file.")
    suffix = (image_suffix(path) or "").lower()
    if suffix == ".nii":
        from resmtnet.ct.nifti import open_nifti

        return open_nifti(path, read_geometry(path))
    if is_detached(path):
        return _decode(path)
    voxels, extra = VolumeCache().get(path, lambda: _to_entry(_decode(path)))
    return _from_entry(voxels, extra)


def read_geometry(path: Path) -> Geometry:
    """The grid of an image file as ITK reads it, from the header only.

    Raises:
        VolumeError: it cannot be read, or is not one 3D volume on an orthogonal grid.
    """
    reader = _read_information(path)
    n_axes = reader.GetNumberOfDimensions()
    size = [int(reader.GetDimensions(axis)) for axis in range(n_axes)]
    _check_shape(path, size, int(reader.GetNumberOfComponents()))
    try:
        return Geometry(
            (size[0], size[1], size[2]),
            tuple(reader.GetSpacing(axis) for axis in range(3)),
            tuple(reader.GetOrigin(axis) for axis in range(3)),
            np.array([reader.GetDirection(axis)[:3] for axis in range(3)]).T,
        )
    except VolumeError as error:
        raise VolumeError(f"{path.name}: {error}") from None


def _read_information(path: Path) -> Any:
    """The ImageIO of ITK that has read the header of a file."""
    import itk

    try:
        reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
        if reader is None:
            raise _damaged(path, "its header is not that of its suffix")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
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
            "Save the phase to be read as a file of its own."
        )
    if len(size) < 3 or min(size[:3]) < 2:
        raise VolumeError(
            f"{path.name} has the size {tuple(size)}; a CT volume needs at least 2 voxels along "
            "each of 3 axes."
        )


def _decode(path: Path) -> ArraySource:
    """The whole volume as int16 HU."""
    geometry = read_geometry(path)
    if path.name.lower().endswith(".nii.gz"):
        # Not by ITK: it reads a truncated file without a word, and a NaN as 0.
        from resmtnet.ct.nifti import open_nifti

        source = open_nifti(path, geometry)
        hu, found = source.read((0, 0, 0), geometry.size_ijk)
        found = source.warnings + found
    else:
        hu, found = to_hu(_read_with_itk(path))
    return ArraySource(hu, geometry, found + hu_warnings(hu))


def _read_with_itk(path: Path) -> NDArray[Any]:
    """Voxels [k, j, i]: int16, or float32 for any other type."""
    import itk

    try:
        short = _read_information(path).GetComponentType() == itk.CommonEnums.IOComponent_SHORT
        image_type = itk.Image[itk.SS if short else itk.F, 3]
        reader = itk.ImageFileReader[image_type].New(FileName=str(path))
        reader.Update()
        return np.asarray(itk.array_from_image(reader.GetOutput()))
    except RuntimeError as error:
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


def _itk_error(path: Path, error: RuntimeError) -> VolumeError:
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
