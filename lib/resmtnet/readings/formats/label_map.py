"""The file of a label map: its voxels, where they lie, and the segments that a .seg.nrrd names.

https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.image_file import check_whole, image_suffix, read_geometry
from resmtnet.ct.nifti import open_nifti
from resmtnet.errors import VolumeError
from resmtnet.types import Json

_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")
_MOST_VALUES = 65535
MOST_VOXELS = 1024 * 1024 * 2000
"""Of a label map, all layers together: a header of a few bytes could ask for all the memory."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map as a file holds it."""

    mask: NDArray[Any]
    """[k, j, i], whole numbers; 0 = background."""
    geometry: Geometry
    segments: tuple[Json, ...] = ()
    """{"name", "idx"} of each segment that the file itself names, idx being the voxel value."""
    warnings: tuple[str, ...] = ()

    @property
    def resampled(self) -> bool:
        """Whether the voxels at the borders may be others than those that were drawn.

        Slicer resamples what it writes as .seg.nrrd: with 5.13 the border of a segment moved by a
        voxel, on oblique grids and on straight ones.
        """
        return bool(self.segments)


def read_label_map(path: Path) -> LabelMap:
    """Read a label map: NIfTI, NRRD, MetaImage, or Slicer's .seg.nrrd.

    Segments of a .seg.nrrd that overlap lie in several layers; where two claim a voxel, the later
    segment has it.

    Raises:
        VolumeError: it cannot be read, is no label map, or its voxels are in another file.
    """
    suffix = (image_suffix(path) or "").lower()
    if not suffix:
        raise VolumeError(f"{path.name} is not a mask; allowed are .nrrd, .nii, .nii.gz and .mha")
    check_whole(path)
    if suffix in (".nii", ".nii.gz"):
        geometry = read_geometry(path)
        _check_number(math.prod(geometry.size_ijk), path)
        voxels = open_nifti(path, geometry).read((0, 0, 0), geometry.size_ijk).hu
        return LabelMap(_whole(voxels, path), geometry)
    voxels, geometry, header = _read_with_itk(path, suffix)
    found = _segments(header)
    if voxels.ndim == 4:
        return _flattened(voxels, geometry, found, path)
    segments = tuple(
        {"name": s.get("Name", ""), "idx": int(s["LabelValue"])}
        for s in found
        if s.get("LabelValue", "").isdigit()
    )
    return LabelMap(_whole(voxels, path), geometry, segments)


def write_mask(mask: NDArray[np.uint8], grid: Geometry, path: Path) -> None:
    """Write the mask of one nodule.

    Args:
        mask: [k, j, i]; what is not 0 becomes 1.
        grid: of its voxels.
        path: ends in .nrrd.
    """
    import itk

    image = itk.image_from_array((mask > 0).astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_lps_mm)
    # A copy: ITK ends the process when it is handed a read-only array.
    image.SetDirection(itk.matrix_from_array(grid.direction.copy()))
    itk.imwrite(image, str(path), compression=True)


def _read_with_itk(path: Path, suffix: str) -> tuple[NDArray[Any], Geometry, Mapping[str, Any]]:
    import itk

    try:
        # Not the one that ITK would choose by the content: HDF5 too can name other files.
        reader = {".nrrd": itk.NrrdImageIO, ".mha": itk.MetaImageIO}[suffix].New()
        if not reader.CanReadFile(str(path)):
            raise RuntimeError("its header is not that of its suffix")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        n_components = reader.GetNumberOfComponents()
        n_axes = range(reader.GetNumberOfDimensions())
        _check_number(n_components * math.prod(map(reader.GetDimensions, n_axes)), path)
        # imread knows no images with several layers of whole numbers.
        kind = itk.VectorImage[itk.UC, 3] if n_components > 1 else None
        if kind is None:
            image = itk.imread(str(path), imageio=reader)
        else:
            layers = itk.ImageFileReader[kind].New(FileName=str(path), ImageIO=reader)
            layers.Update()
            image = layers.GetOutput()
        voxels = np.asarray(itk.array_from_image(image))
        size = [int(n) for n in image.GetLargestPossibleRegion().GetSize()]
    except (RuntimeError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["ITK cannot read it"]
        raise VolumeError(f"{path.name} is damaged, or no image: {reason[0].strip()}") from error
    if len(size) != 3 or voxels.ndim not in (3, 4):
        raise VolumeError(f"{path.name} has the shape {voxels.shape}; a mask has three axes")
    geometry = Geometry(
        (size[0], size[1], size[2]),
        tuple(image.GetSpacing()),
        tuple(image.GetOrigin()),
        itk.array_from_matrix(image.GetDirection()),
    )
    return voxels, geometry, dict(image)


def _check_number(n_voxels: int, path: Path) -> None:
    if n_voxels > MOST_VOXELS:
        raise VolumeError(f"{path.name} has {n_voxels:,} voxels; at most {MOST_VOXELS:,} are read")


def _segments(header: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, LabelValue and Layer of each segment, in their order."""
    found: dict[int, dict[str, str]] = {}
    for key, value in header.items():
        match = _SEGMENT.fullmatch(str(key))
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = str(value).strip()
    return [found[n] for n in sorted(found)]


def _flattened(
    layers: NDArray[Any], geometry: Geometry, found: list[dict[str, str]], path: Path
) -> LabelMap:
    """One label map of several layers [k, j, i, layer], its values renumbered."""
    if not found:
        raise VolumeError(f"{path.name} has {layers.shape[-1]} numbers per voxel; a mask has one")
    mask = np.zeros(layers.shape[:3], np.uint16)
    clashes = 0
    for n, segment in enumerate(found, start=1):
        layer, value = int(segment.get("Layer", 0)), int(segment.get("LabelValue", 1))
        inside = layers[..., layer] == value
        clashes += int((mask[inside] > 0).sum())
        mask[inside] = n
    segments = tuple({"name": s.get("Name", ""), "idx": n} for n, s in enumerate(found, start=1))
    warning = f"segments overlap in {clashes} voxels: the later segment has them"
    return LabelMap(mask, geometry, segments, (warning,) if clashes else ())


def _whole(voxels: NDArray[Any], path: Path) -> NDArray[Any]:
    """The voxels as whole numbers.

    Raises:
        VolumeError: they are an image and not labels.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if low < 0 or high > _MOST_VALUES:
        raise VolumeError(
            f"{path.name} has voxels from {low:g} to {high:g}: it is an image, not a label map"
        )
    if voxels.dtype.kind == "f":
        if (voxels != np.rint(voxels)).any():
            raise VolumeError(f"{path.name} has fractional voxels: it is an image, not a label map")
        return voxels.astype(np.uint16)
    return voxels
