"""CTVolume, a CT that is read lazily: `crop` decodes only the slices that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.points import as_point
from resmtnet.ct.source import AIR_HU, ArraySource, VoxelSource, box_kji, hu_warnings, to_hu
from resmtnet.errors import InputError, VolumeError

_MARGIN_VOXELS = 1
"""Voxels that a crop has beyond its extent, so that its border can be interpolated."""

_MAX_CROP_VOXELS = 2**31
"""A crop beyond this is a mistake in its extent (2 bytes each)."""


@dataclass(frozen=True, eq=False)
class Crop:
    """A box of the CT's own voxels; what lies outside the CT is air."""

    hu: NDArray[np.int16]
    """int16 [k, j, i], HU; -1024 outside the CT."""

    start_ijk: tuple[int, int, int]
    """Index in the CT of the first voxel of the crop; may be negative."""

    geometry: Geometry
    """The grid of the crop."""

    outside: bool
    """Some of the crop lies outside the CT."""

    warnings: tuple[str, ...] = ()
    """What is wrong with the voxels of this crop (not finite, interpolated, not HU)."""


class CTVolume:
    """One CT: where it lies (`geometry`), what it is called, and its voxels on demand.

    Open a file with `CTVolume.open`, or wrap an array with `CTVolume.from_array`.
    """

    def __init__(self, source: VoxelSource, image_id: str, path: Path | None = None) -> None:
        """A volume over voxels that something else reads.

        Args:
            source: reads the voxels.
            image_id: SeriesInstanceUID, or file name without extension.
            path: what was opened, if it was a file or folder.
        """
        self._source = source
        self.geometry = source.geometry
        self.image_id = image_id
        self.path = path
        self.warnings: tuple[str, ...] = source.warnings

    @property
    def slice_files(self) -> tuple[Path, ...]:
        """The files of the slices of a DICOM series, of one stack alone; none of any other CT."""
        found: tuple[Path, ...] = getattr(self._source, "files", ())
        return found

    def __repr__(self) -> str:
        return (
            f"CTVolume({self.image_id!r}, size_ijk={self.geometry.size_ijk}, "
            f"spacing_mm={self.geometry.spacing_mm})"
        )

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        stack: int | None = None,
        spacing_ijk_mm: Sequence[float] | None = None,
    ) -> CTVolume:
        """Opens a CT without reading its voxels where the format allows that.

        Args:
            path: a folder with one DICOM series, one file of a series, or a .nii, .nii.gz,
                .nrrd, .nhdr, .mha or .mhd file.
            stack: which stack of a DICOM series to read, from 1, where it holds several (phases,
                kernels, passes, orientations); `warnings` lists them. Default: the largest.
            spacing_ijk_mm: the voxel spacing along i, j and k of a NRRD or MetaImage file that
                does not give it, and is refused otherwise.

        Raises:
            SeveralSeriesError: the folder holds more than one series; the message lists them.
            VolumeError: it cannot be read, is not a CT volume, or has no such stack.
        """
        from resmtnet.ct.dicom_series import is_dicom_file, open_series
        from resmtnet.ct.image_file import ALLOWED_SUFFIXES, image_suffix, open_image

        path = Path(path).expanduser()
        if not path.exists():
            raise VolumeError(f"There is no file or folder {path}.")
        suffix = image_suffix(path)
        if path.is_dir() or (suffix is None and is_dicom_file(path)):
            if spacing_ijk_mm is not None:
                raise VolumeError("--spacing is for NRRD and MetaImage files; DICOM gives its own.")
            series = open_series(path, stack)
            return cls(series, series.series_uid, path)
        if suffix is None:
            raise VolumeError(
                f"{path.name} is not a CT that can be read: give a DICOM series (its folder or "
                f"one of its files) or a file ending in {', '.join(ALLOWED_SUFFIXES)}."
            )
        if stack is not None:
            raise VolumeError(
                f"{path.name} is one volume; stack={stack} is for a DICOM series with several."
            )
        return cls(open_image(path, spacing_ijk_mm), path.name[: -len(suffix)], path)

    @classmethod
    def from_array(
        cls,
        hu: ArrayLike,
        spacing_mm: Sequence[float],
        origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
        direction: ArrayLike | None = None,
        image_id: str = "array",
    ) -> CTVolume:
        """A volume over voxels in memory.

        Args:
            hu: [k, j, i], HU; int16 is not copied.
            spacing_mm: (dz, dy, dx), in the order of the array: k, j, i.
            origin_mm: (x, y, z) of the centre of voxel (0, 0, 0), LPS.
            direction: (3, 3); its columns are the LPS unit vectors of i, j, k. Default: identity.
            image_id: what the volume is called in results.

        Raises:
            VolumeError: the array is not a 3D array of numbers, or the geometry is impossible.
        """
        array = np.asarray(hu)
        if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "iuf":
            raise VolumeError(
                f"A CT needs a 3D array [k, j, i] of numbers, got the shape {array.shape} of "
                f"{array.dtype}."
            )
        voxels, warnings = (array, ()) if array.dtype == np.int16 else to_hu(array)
        geometry = Geometry(
            _int_triple(array.shape[::-1]),
            _triple(spacing_mm, "spacing_mm")[::-1],
            _triple(origin_mm, "origin_mm"),
            np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64),
        )
        return cls(ArraySource(voxels, geometry, warnings + hu_warnings(voxels)), image_id)

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Shape of `array()`."""
        return self.geometry.shape_kji

    def array(self) -> NDArray[np.int16]:
        """The whole volume, int16 HU [k, j, i]; what is wrong with it joins `warnings`."""
        slab = self._source.read((0, 0, 0), self.geometry.size_ijk)
        found = slab.warnings + hu_warnings(slab.hu)
        self.warnings += tuple(text for text in found if text not in self.warnings)
        return slab.hu

    def crop(self, centre_lps_mm: ArrayLike, extent_mm: float | Sequence[float]) -> Crop:
        """The voxels that cover a box around a point; only these are read.

        Args:
            centre_lps_mm: (x, y, z), LPS mm; may lie outside the CT.
            extent_mm: full widths of the box along the LPS axes, or one for all three.

        Returns:
            The smallest box of voxels that covers it, and one voxel more on each side.

        Raises:
            PointError: the centre is not three finite numbers.
            InputError: the extent is not positive and finite.
        """
        start, stop = self._box(centre_lps_mm, extent_mm)
        geometry = self.geometry.sub(_int_triple(start), _int_triple(stop - start))
        first = np.maximum(start, 0)
        last = np.minimum(stop, self.geometry.size_ijk)
        outside = bool((first != start).any() or (last != stop).any())
        if (last <= first).any():
            air = np.full(geometry.shape_kji, AIR_HU, np.int16)
            return Crop(air, _int_triple(start), geometry, outside=True)
        slab = self._source.read(_int_triple(first), _int_triple(last - first))
        hu = slab.hu
        if outside:
            hu = np.full(geometry.shape_kji, AIR_HU, np.int16)
            hu[box_kji(_int_triple(first - start), _int_triple(last - first))] = slab.hu
        warnings = slab.warnings + hu_warnings(slab.hu, whole=False)
        return Crop(hu, _int_triple(start), geometry, outside, warnings)

    def _box(
        self, centre_lps_mm: ArrayLike, extent_mm: float | Sequence[float]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First index and index past the end, ijk, of the voxels that cover a box in LPS."""
        centre = np.array(as_point(centre_lps_mm, "centre"))
        extent = np.asarray(extent_mm, dtype=np.float64)
        if extent.shape not in ((), (3,)) or not np.isfinite(extent).all() or (extent <= 0).any():
            raise InputError(
                f"The extent {extent.tolist()} mm is not a box: one or three positive widths "
                "are needed."
            )
        signs = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
        corners = self.geometry.lps_to_ijk(centre + signs * extent)
        # Rounded first, so that 10.0000001 does not cost a slice.
        corners = np.round(corners, 6)
        start = np.floor(corners.min(axis=0)).astype(np.int64) - _MARGIN_VOXELS
        stop = np.ceil(corners.max(axis=0)).astype(np.int64) + 1 + _MARGIN_VOXELS
        if np.prod((stop - start).astype(np.float64)) > _MAX_CROP_VOXELS:
            raise InputError(f"The extent {extent.tolist()} mm is larger than any CT.")
        return start, stop


def _int_triple(values: Any) -> tuple[int, int, int]:
    i, j, k = (int(value) for value in values)
    return i, j, k


def _triple(values: Sequence[float], name: str) -> tuple[float, float, float]:
    if len(values) != 3:
        raise VolumeError(f"{name} needs 3 numbers, got {len(values)}.")
    x, y, z = (float(value) for value in values)
    return x, y, z


def try_open(path: Path, folder: Path) -> None:
    """Open a CT and forget it: what `ct.apart` does first with a file of a stranger.

    Args:
        path: of the file; its decoded voxels stay in the cache.
        folder: nothing is written there.

    Raises:
        VolumeError: it cannot be read.
    """
    CTVolume.open(path)
