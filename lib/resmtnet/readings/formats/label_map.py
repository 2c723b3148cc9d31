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
from resmtnet.ct.text_header import TextHeader, meta_voxels, read_text_header
from resmtnet.errors import VolumeError
from resmtnet.types import Json

_SEGMENT = re.compile(r"Segment([0-9]{1,6})_(Name|LabelValue|Layer)")
_MOST_VALUES = 65535
_SAME_GRID = 1e-3
"""Of the steps of a mask in voxels of the CT: by so little rounding makes them differ."""
_OFF_GRID = 0.05
"""In voxels: a mask that lies so close to the voxels of the CT lies on them."""
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
        source = open_nifti(path, geometry)
        return LabelMap(_whole(source.scaled(), path), geometry, (), source.warnings)
    text = read_text_header(path, suffix)
    if not text.has_spacing:
        raise VolumeError(
            f"{path.name} does not give the distance between its voxels (spacing): where it lies "
            "in the CT is not known. Save the mask with the geometry of the CT."
        )
    voxels, geometry = _read_with_itk(text, suffix)
    n_layers = voxels.shape[3] if voxels.ndim == 4 else 1
    found = _segments(text.pairs, n_layers, path)
    if voxels.ndim == 4:
        return _flattened(voxels, geometry, found, path)
    segments = tuple({"name": s.name, "idx": s.value} for s in found)
    return LabelMap(_whole(voxels, path), geometry, segments, text.warnings)


def grid_warnings(mask: Geometry, ct: Geometry) -> tuple[str, ...]:
    """What is doubtful about the place of a mask in the CT that it was drawn on.

    Returns:
        A warning if the mask is on other voxels than the CT, or goes beyond it.

    Raises:
        VolumeError: the mask has the number of voxels of the CT, but lies elsewhere: it was saved
            without the geometry of the CT.

    >>> ct = Geometry((4, 4, 4), (1.0, 1.0, 2.0), (9.0, 0.0, 0.0), np.eye(3))
    >>> grid_warnings(Geometry((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3)), ct)
    Traceback (most recent call last):
    resmtnet.errors.VolumeError: the mask has the size of the CT, (4, 4, 4) voxels, but...
    """
    ends = np.array([(0, 0, 0), np.subtract(mask.size_ijk, 1)], dtype=np.float64)
    index = ct.lps_to_ijk(mask.ijk_to_lps(ends))
    low, high = index.min(axis=0), index.max(axis=0)
    last = np.subtract(ct.size_ijk, 1.0)
    turned = np.abs(ct.index_per_mm @ (mask.direction * mask.spacing_mm))
    one_lattice = bool(
        np.abs(turned - np.rint(turned)).max() <= _SAME_GRID
        and np.abs(turned.sum(axis=0) - 1).max() <= _SAME_GRID
        and np.abs(index - np.rint(index)).max() <= _OFF_GRID
    )
    if sorted(mask.size_ijk) == sorted(ct.size_ijk):
        if one_lattice and np.abs(low).max() < 1 and np.abs(high - last).max() < 1:
            return ()
        raise VolumeError(
            f"the mask has the size of the CT, {mask.size_ijk} voxels, but lies elsewhere (first "
            f"voxel at {_shown(mask)}, that of the CT at {_shown(ct)} mm, spacing "
            f"{mask.spacing_mm} and {ct.spacing_mm} mm): it has lost its geometry, or is of "
            "another CT. Save it with the geometry of the CT"
        )
    warnings: tuple[str, ...] = ()
    if not one_lattice:
        warnings = (
            f"the mask is on other voxels than the CT (spacing {mask.spacing_mm} and "
            f"{ct.spacing_mm} mm): read where it lies; check that it was drawn on this CT",
        )
    if (low < -_OFF_GRID - 0.5).any() or (high > last + 0.5 + _OFF_GRID).any():
        warnings += ("the mask goes beyond the CT; check that it was drawn on this CT",)
    return warnings


def on_voxels_of(label_map: LabelMap, ct: Geometry) -> NDArray[np.uint16]:
    """Return a label map on the voxels of the CT, [k, j, i], however its axes run.

    Raises:
        VolumeError: it lies on other voxels, or its values are too many.
    """
    found = np.zeros(ct.shape_kji, np.uint16)
    kji = np.argwhere(label_map.mask)
    if not len(kji):
        return found
    exact = ct.lps_to_ijk(label_map.geometry.ijk_to_lps(kji[:, ::-1]))
    ijk = np.rint(exact).astype(np.int64)
    inside = ((ijk >= 0) & (ijk < ct.size_ijk)).all(axis=1)
    if not inside.all() or np.abs(exact - ijk).max() > _OFF_GRID:
        raise VolumeError(
            "the mask does not lie on the voxels of the CT, as a DICOM SEG has to; save it with "
            "the geometry of the CT"
        )
    found[ijk[:, 2], ijk[:, 1], ijk[:, 0]] = label_map.mask[tuple(kji.T)]
    return found


def _shown(grid: Geometry) -> str:
    return "(" + ", ".join(f"{mm:.1f}" for mm in grid.origin_lps_mm) + ")"


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


def _read_with_itk(text: TextHeader, suffix: str) -> tuple[NDArray[Any], Geometry]:
    import itk

    path = text.path
    try:
        # Not the one that ITK would choose by the content: HDF5 too can name other files.
        reader = {".nrrd": itk.NrrdImageIO, ".mha": itk.MetaImageIO}[suffix].New()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        n_components = reader.GetNumberOfComponents()
        n_axes = range(reader.GetNumberOfDimensions())
        sizes = [int(reader.GetDimensions(axis)) for axis in n_axes]
        _check_number(n_components * math.prod(sizes), path)
        if len(sizes) > 3 and max(sizes[3:]) > 1:
            raise VolumeError(f"{path.name} has the shape {tuple(sizes)}; a mask has three axes")
        kinds = itk.CommonEnums
        component = {
            kinds.IOComponent_UCHAR: itk.UC,
            kinds.IOComponent_SHORT: itk.SS,
            kinds.IOComponent_USHORT: itk.US,
        }.get(reader.GetComponentType(), itk.F)
        # imread knows no images with several layers of whole numbers.
        kind = (itk.VectorImage if n_components > 1 else itk.Image)[component, 3]
        layers = itk.ImageFileReader[kind].New(FileName=str(path), ImageIO=reader)
        layers.Update()
        image = layers.GetOutput()
        voxels = np.asarray(itk.array_from_image(image))
        size = [int(n) for n in image.GetLargestPossibleRegion().GetSize()]
    except (RuntimeError, TypeError, KeyError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["ITK cannot read it"]
        raise VolumeError(f"{path.name} is damaged, or no image: {reason[0].strip()}") from error
    if len(size) != 3 or voxels.ndim not in (3, 4):
        raise VolumeError(f"{path.name} has the shape {voxels.shape}; a mask has three axes")
    dx, dy, dz = (text.unit_mm * float(mm) for mm in image.GetSpacing())
    x, y, z = (text.unit_mm * float(mm) for mm in image.GetOrigin())
    geometry = Geometry(
        (size[0], size[1], size[2]),
        (dx, dy, dz),
        (x, y, z),
        itk.array_from_matrix(image.GetDirection()),
    )
    if suffix == ".mha":
        meta_voxels(text, geometry.size_ijk)  # ITK passes over a wrong checksum
    return voxels, geometry


def _check_number(n_voxels: int, path: Path) -> None:
    if n_voxels > MOST_VOXELS:
        raise VolumeError(f"{path.name} has {n_voxels:,} voxels; at most {MOST_VOXELS:,} are read")


@dataclass(frozen=True)
class _Segment:
    """A segment that a .seg.nrrd names: the voxels of one value in one layer."""

    name: str
    layer: int
    value: int


def _segments(pairs: Mapping[str, str], n_layers: int, path: Path) -> list[_Segment]:
    """The segments in their order, by the rules of Slicer's own reader.

    Without Layer the number of the segment is that of its layer, without LabelValue its value is
    1 (vtkMRMLSegmentationStorageNode::ReadBinaryLabelmapRepresentation). In a file of one layer a
    segment without Layer is in this one.

    Raises:
        VolumeError: it is not clear which voxels a segment has.
    """
    fields: dict[int, dict[str, str]] = {}
    for key, value in pairs.items():
        match = _SEGMENT.fullmatch(key)
        if match:
            fields.setdefault(int(match[1]), {})[match[2]] = value
    found: dict[tuple[int, int], _Segment] = {}
    for n, said in sorted(fields.items()):
        name = said.get("Name", "")
        layer = _number(said.get("Layer", str(n if n_layers > 1 else 0)), "Layer", name, path)
        label = _number(said.get("LabelValue", "1"), "LabelValue", name, path)
        if layer >= n_layers or label == 0:
            raise VolumeError(
                f"{path.name}: the segment {name!r} is said to be the value {label} of layer "
                f"{layer}; the file has {n_layers} layer(s), and 0 is the background. Save it "
                "again from 3D Slicer"
            )
        other = found.get((layer, label))
        if other is not None:
            raise VolumeError(
                f"{path.name}: the segments {other.name!r} and {name!r} both are the value {label} "
                f"of layer {layer}: which voxels are whose is not said. Save it again from 3D "
                "Slicer"
            )
        found[layer, label] = _Segment(name, layer, label)
    return list(found.values())


def _number(text: str, field: str, name: str, path: Path) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise VolumeError(
            f"{path.name}: {field} of the segment {name!r} is {text!r}; a whole number is needed"
        )
    return int(text)


def _flattened(
    layers: NDArray[Any], geometry: Geometry, found: list[_Segment], path: Path
) -> LabelMap:
    """One label map of several layers [k, j, i, layer], its values renumbered."""
    if not found:
        raise VolumeError(f"{path.name} has {layers.shape[-1]} numbers per voxel; a mask has one")
    mask = np.zeros(layers.shape[:3], np.uint16)
    clashes, named = 0, np.zeros(layers.shape[:3], bool)
    for n, segment in enumerate(found, start=1):
        inside = layers[..., segment.layer] == segment.value
        clashes += int((mask[inside] > 0).sum())
        mask[inside] = n
        named |= inside
    warnings: tuple[str, ...] = ()
    if clashes:
        warnings = (f"segments overlap in {clashes} voxels: the later segment has them",)
    unnamed = int(((layers != 0).any(axis=-1) & ~named).sum())
    if unnamed:
        warnings += (f"{unnamed} voxels belong to no segment that the file names: not read",)
    segments = tuple({"name": s.name, "idx": n} for n, s in enumerate(found, start=1))
    return LabelMap(mask, geometry, segments, warnings)


def _whole(voxels: NDArray[Any], path: Path) -> NDArray[Any]:
    """The voxels as whole numbers.

    Raises:
        VolumeError: they are an image and not labels.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if not low >= 0 or high > _MOST_VALUES:
        raise VolumeError(
            f"{path.name} has voxels from {low:g} to {high:g}: it is an image, not a label map"
        )
    if voxels.dtype.kind == "f":
        if (voxels != np.rint(voxels)).any():
            raise VolumeError(f"{path.name} has fractional voxels: it is an image, not a label map")
        return voxels.astype(np.uint16)
    return voxels
