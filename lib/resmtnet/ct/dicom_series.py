"""A CT series of DICOM files: headers are indexed once, slices are decoded when they are read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.cache import MemoryCache
from resmtnet.ct.dicom_header import CT_IMAGE, Header, is_dicom_file, read_header
from resmtnet.ct.dicom_pixels import (
    UNCOMPRESSED,
    StoredSlice,
    check_values,
    decode,
    expected_bytes,
    truncated,
)
from resmtnet.ct.dicom_stack import (
    SeriesInfo,
    check_drift,
    chosen_stack,
    ct_images,
    left_out,
    ordered_stack,
    series_info,
    stacks,
)
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.slice_grid import SliceGrid, slice_grid
from resmtnet.ct.source import Slab, lung_share, region_warnings, to_hu
from resmtnet.errors import SeveralSeriesError, VolumeError

__all__ = ["DicomSeries", "SeriesInfo", "is_dicom_file", "list_series", "open_series"]

_NOT_IMAGES = ("SEG", "RTDOSE", "PR", "SR", "KO")
"""Modalities of objects that may have rows and columns, and are made from a series."""

_SMALLEST_SLICE = 64 * 64
_LUNG_STEP = 8
_FEWEST_SLICES = 8
_LEAST_LUNG = 0.005
"""Of a whole slice: beyond the lungs only skin, foam and bowel gas have their HU."""

_DECODED_BYTES = 192 * 2**20
"""Decoded slices kept per volume: about 380 of 512 x 512."""


class DicomSeries:
    """The voxels of one series; a `VoxelSource`."""

    def __init__(
        self, headers: Sequence[Header], warnings: tuple[str, ...] = (), stack: int | None = None
    ) -> None:
        """Places the slices of one series.

        Args:
            headers: of its images, in any order.
            warnings: what is known to be wrong with the series.
            stack: number of the stack to read, from 1, if the series holds several (phases,
                kernels, passes, orientations); default: the largest.

        Raises:
            VolumeError: the series is not a CT, its images do not form a volume, or it has no
                such stack.
        """
        images, others = ct_images(headers)
        found, parted, singles = stacks(images)
        part, choice = chosen_stack(found, parted, stack)
        chosen = ordered_stack(part)
        check_drift(chosen)
        self._slices, values_told = check_values(chosen.headers)
        self.series_uid = self._slices[0].values.get("SeriesInstanceUID", "")
        self._grid: SliceGrid = slice_grid(chosen.positions_mm)
        self.warnings: tuple[str, ...] = (
            *warnings,
            *choice,
            *left_out(len(headers), others + singles),
            *chosen.warnings,
            *values_told,
            *self._grid.warnings,
            *region_warnings(self._slices[0].values.get("BodyPartExamined", "")),
        )
        x, y, z = self._slices[0].numbers("ImagePositionPatient", 3)
        size = int(self._slices[0].number("Columns")), int(self._slices[0].number("Rows"))
        self.geometry = Geometry(
            (*size, len(self._grid.below)),
            (*chosen.spacing_ij_mm, self._grid.spacing_mm),
            (x, y, z),
            chosen.direction,
        )
        self._decoded: MemoryCache[int, StoredSlice] = MemoryCache(_DECODED_BYTES)
        self._lung_shares: dict[int, float] = {}
        """Of the slices that were decoded, by their number."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the voxels are read from: of several stacks those of one alone."""
        return tuple(header.path for header in self._slices)

    def read(self, start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]) -> Slab:
        """The voxels of a box inside the grid; decodes the slices of the box only."""
        (i, j, k), (ni, nj, nk) = start_ijk, size_ijk
        window = slice(j, j + nj), slice(i, i + ni)
        hu = np.empty((nk, nj, ni), np.int16)
        told: dict[str, None] = {}
        for n in range(nk):
            below, weight = int(self._grid.below[k + n]), float(self._grid.weight[k + n])
            hu[n] = self._slice_hu(below, window, told)
            if weight:
                above = self._slice_hu(below + 1, window, told)
                hu[n] = np.rint((1 - weight) * hu[n] + weight * above)
        told.update(dict.fromkeys(self._no_lung(self._grid.below[k : k + nk])))
        count = int(self._grid.interpolated[k : k + nk].sum())
        if count:
            text = f"{count} of {nk} slices here are interpolated: the series lacks them."
            return Slab(hu, (text, *told))
        return Slab(hu, tuple(told))

    def _slice_hu(
        self, n: int, window: tuple[slice, slice], told: dict[str, None]
    ) -> NDArray[np.int16]:
        stored = self._decoded.get(n)
        if stored is None:
            stored = decode(self._slices[n])
            self._decoded.put(n, stored, stored.values.nbytes)
            if stored.values.size >= _SMALLEST_SLICE:
                sample = stored.values[::_LUNG_STEP, ::_LUNG_STEP]
                self._lung_shares[n] = lung_share(to_hu(sample, stored.slope, stored.intercept)[0])
        told.update(dict.fromkeys(stored.warnings))
        return to_hu(stored.values[window], stored.slope, stored.intercept)[0]

    def _no_lung(self, slices: NDArray[np.int64]) -> tuple[str, ...]:
        """A warning if slices that were just read have no lung, whole as they are."""
        shares = [share for n in slices.tolist() if (share := self._lung_shares.get(n)) is not None]
        if len(shares) < _FEWEST_SLICES or max(shares) >= _LEAST_LUNG:
            return ()
        return (
            f"no lung in any of {len(shares)} slices here: at most {max(shares):.1%} of a slice "
            "have the HU of aerated lung. This does not look like a CT of the chest.",
        )


def list_series(folder: Path) -> tuple[SeriesInfo, ...]:
    """The image series of a folder, without its subfolders, in the order of their UIDs.

    Files that cannot be read are not counted; `open_series` names them.
    """
    return tuple(series_info(headers) for _, headers in sorted(_scan(folder).series.items()))


def open_series(path: Path, stack: int | None = None) -> DicomSeries:
    """Indexes one DICOM series.

    Args:
        path: a folder with one series (other files are ignored), or one file of a series,
            whose other files lie in the same folder (files of no known series that cannot be
            read are then a warning).
        stack: number of the stack to read, from 1, if the series holds several; default: the
            largest.

    Raises:
        SeveralSeriesError: the folder holds more than one series.
        VolumeError: there is no CT series, or a file of it cannot be read.
    """
    return _only_series(path, stack) if path.is_dir() else _series_of_file(path, stack)


def _only_series(folder: Path, stack: int | None) -> DicomSeries:
    """A file that cannot be read is an error: it may be a slice of the series."""
    found = _scan(folder)
    if len(found.series) > 1:
        lines = "; ".join(str(series_info(headers)) for _, headers in sorted(found.series.items()))
        raise SeveralSeriesError(
            f"{folder} holds {len(found.series)} series: {lines}. "
            "Give one file of the series to read."
        )
    for broken in found.broken:
        raise broken.error
    if not found.series:
        raise VolumeError(_nothing_there(folder))
    return DicomSeries(next(iter(found.series.values())), stack=stack)


def _series_of_file(path: Path, stack: int | None) -> DicomSeries:
    header = read_header(path)
    if header is None or not _is_image(header):
        raise VolumeError(f"{path.name} is not a DICOM image; give a file of a CT series.")
    uid = header.values.get("SeriesInstanceUID", "")
    found = _scan(path.parent)
    unknown = []
    for broken in found.broken:
        if broken.uid == uid:
            raise broken.error
        if broken.uid is None:
            unknown.append(broken.path.name)
    warnings: tuple[str, ...] = ()
    if unknown:
        names = ", ".join(sorted(unknown)[:5])
        warnings = (
            f"{len(unknown)} DICOM file(s) beside the series cannot be read; they are left out, "
            f"and may belong to it: {names}.",
        )
    return DicomSeries(found.series.get(uid) or [header], warnings, stack)


class _Broken(NamedTuple):
    """An image that cannot be read."""

    path: Path

    uid: str | None
    """SeriesInstanceUID; None if the file does not get so far."""

    error: VolumeError


class _Scan(NamedTuple):
    """The images of a folder."""

    series: dict[str, list[Header]]
    """Headers by SeriesInstanceUID."""

    broken: list[_Broken]


def _scan(folder: Path) -> _Scan:
    """Reads the headers of a folder, without its subfolders."""
    series: dict[str, list[Header]] = defaultdict(list)
    broken = []
    with os.scandir(folder) as entries:
        for entry in entries:
            # Hidden files: copies of resource forks and the like.
            if entry.name.startswith(".") or entry.name.upper() == "DICOMDIR":
                continue
            if not entry.is_file():
                continue
            path, uid = Path(entry.path), None
            try:
                header = read_header(path)
                if header is None or not _is_image(header):
                    continue
                uid = header.values.get("SeriesInstanceUID")
                _check_length(header, entry.stat().st_size)
            except VolumeError as error:
                broken.append(_Broken(path, uid, error))
            else:
                series[uid or ""].append(header)
    return _Scan(dict(series), broken)


def _is_image(header: Header) -> bool:
    """Whether a file is an image of a series, and not made from one."""
    if header.values.get("Modality") in _NOT_IMAGES:
        return False
    return "Rows" in header.values or header.values.get("SOPClassUID") == CT_IMAGE


def _check_length(header: Header, file_bytes: int) -> None:
    """A truncated file is found without decoding it."""
    if "Rows" not in header.values:
        raise VolumeError(
            f"{header.path.name} is truncated: it ends before its pixel data. "
            "Transfer the series again."
        )
    if header.pixel_start is not None:
        there = min(header.pixel_bytes, file_bytes - header.pixel_start)
    elif header.transfer_syntax in UNCOMPRESSED:
        there = file_bytes
    else:
        return
    needed = expected_bytes(header)
    if there < needed:
        raise truncated(header, max(there, 0), needed)


def _nothing_there(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    if not names:
        return f"{folder} is empty; give a folder with a DICOM series."
    folders = [name for name in names if (folder / name).is_dir()]
    hint = "give a folder with one DICOM series, or an image file itself"
    if folders:
        hint += f"; subfolders are not searched: {', '.join(folders[:5])}"
    return f"{folder} holds no DICOM images ({len(names)} entries); {hint}."
