"""Source: original LIDC-IDRI DICOM folders with their annotations, as crops with full context."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from resmtnet.ct.dicom_series import list_series
from resmtnet.ct.volume import Crop as Box
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.consensus import mean_share
from resmtnet.data.contours import Annotation, Scan, centre_of, coverage, reader_sizes
from resmtnet.data.lidc_readers import nodules_of, said_by_readers
from resmtnet.data.stacks import PROVENANCE as STACKS_PROVENANCE
from resmtnet.data.upright import Turn, turn_upright
from resmtnet.errors import ArchiveError, VolumeError

PROVENANCE = {
    **STACKS_PROVENANCE,
    "form": "crops of the original series on their own grid, with full context",
}
EDGE_MM = 64.0
MARGIN_MM = 12.0
"""Least lung on each side of a nodule; a crop grows beyond its edge where a nodule needs it."""

Warn = Callable[[str], None]


class Annotations(Protocol):
    """Where the readers' annotations come from: lidc_database.LidcDatabase or lidc_xml.LidcXml."""

    def __contains__(self, series_uid: str) -> bool: ...

    def scan(self, series_uid: str) -> Scan:
        """Return a series and all that its readers marked."""


@dataclass(frozen=True)
class Series:
    """A DICOM series that has annotations."""

    file: Path
    """One of its files."""
    patient_id: str
    slice_thickness_mm: float | None
    scan: Scan


def read_lidc(
    dicom: Path,
    annotations: Annotations,
    *,
    edge_mm: float = EDGE_MM,
    patients: Collection[str] | None = None,
    keep_reversed_scales: bool = False,
    warn: Warn = lambda text: None,
) -> Iterator[Crop]:
    """Yield the nodules of a tree of DICOM folders, every reader's contours and ratings with them.

    Split and fold are left open ("train", -1): see data.splits.

    Args:
        dicom: folder with series in it or in its subfolders; those that the annotations do not
            list are left out.
        annotations: of the series.
        edge_mm: least width of a crop.
        patients: use only these; None: all.
        keep_reversed_scales: keep lobulation and spiculation where consensus.trusted_ratings
            would not.
        warn: told of what is left out and why.

    Raises:
        ArchiveError: no series there is annotated.
    """
    found = 0
    numbers: Counter[str] = Counter()
    for series in _annotated_series(dicom, annotations):
        found += 1
        if patients is not None and series.patient_id not in patients:
            warn(f"patient {series.patient_id} is not in the splits: left out")
            continue
        try:
            opened = _open(series)
        except VolumeError as error:
            warn(f"series {series.scan.series_uid} of {series.patient_id} is left out: {error}")
            continue
        initial = False if keep_reversed_scales else series.scan.initial_release
        for readers in opened.nodules():
            numbers[series.patient_id] += 1
            name = f"{series.patient_id}_n{numbers[series.patient_id]}"
            box = _box(opened.ct, readers, edge_mm)
            for text in box.crop.warnings:
                warn(f"{name}: {text}")
            yield _crop(name, opened, readers, box, initial)
    if not found:
        raise ArchiveError(
            f"{dicom}: none of its DICOM series is in the annotations; "
            "give a folder of LIDC-IDRI series and the annotations of the same series"
        )


def _annotated_series(dicom: Path, annotations: Annotations) -> Iterator[Series]:
    if not dicom.is_dir():
        raise ArchiveError(f"{dicom} is no folder: give the folder of the DICOM series")
    seen: set[str] = set()
    for folder, folders, files in os.walk(dicom):
        folders.sort()
        for info in list_series(Path(folder)) if files else ():
            if info.uid in annotations and info.uid not in seen:
                seen.add(info.uid)
                yield _series(info.first_file, annotations.scan(info.uid))


def _series(file: Path, scan: Scan) -> Series:
    from pydicom import dcmread

    tags = ["PatientID", "SliceThickness"]
    header = dcmread(file, stop_before_pixels=True, specific_tags=tags)
    patient_id = scan.patient_id or str(header.get("PatientID") or "")
    if not patient_id:
        raise ArchiveError(f"{file} names no patient (PatientID): splits need one")
    thickness = scan.slice_thickness_mm or header.get("SliceThickness")
    return Series(file, patient_id, float(thickness) if thickness else None, scan)


@dataclass(frozen=True)
class _Opened:
    """A series whose CT is open."""

    series: Series
    ct: CTVolume
    turn: Turn

    def nodules(self) -> list[list[Annotation]]:
        """Return the annotations of each nodule."""
        spacing = self.ct.geometry.spacing_mm
        tolerance = self.series.slice_thickness_mm or spacing[2]
        return nodules_of(self.series.scan.annotations, spacing[0], tolerance)


def _open(series: Series) -> _Opened:
    ct = CTVolume.open(series.file)
    turn = turn_upright(ct.geometry.direction)
    if turn is None or ct.geometry.slice_axis != 2:
        raise VolumeError("its slices are not axial; LIDC contours need axial slices")
    return _Opened(series, ct, turn)


@dataclass(frozen=True)
class _Box:
    """The voxels around a nodule."""

    crop: Box
    start_xyz: tuple[float, float, float]
    """(column, row, z in mm) of the first voxel."""
    dz_mm: float
    """Step in z from slice to slice; negative where they run downwards."""


def _crop(
    name: str,
    opened: _Opened,
    readers: Sequence[Annotation],
    box: _Box,
    initial_release: bool | None,
) -> Crop:
    series, spacing_mm, turn = opened.series, opened.ct.geometry.spacing_mm, opened.turn
    shape = box.crop.geometry.shape_kji
    masks = [coverage(reader.contours, box.start_xyz, box.dz_mm, shape) for reader in readers]
    sizes = reader_sizes(readers, spacing_mm[0], abs(box.dz_mm), masks)
    share = mean_share(masks)
    if not share.any():
        raise ArchiveError(f"{name}: none of its contours lies in the series {series.file.parent}")
    x, y, z = (round(float(v), 3) for v in box.crop.geometry.ijk_to_lps(centre_of(share)[::-1]))
    hu, upright = turn.apply(box.crop.hu), turn.apply(share)
    (k, j, i), (dz, dy, dx) = hu.shape, (spacing_mm[2 - axis] for axis in turn.axes)
    nodule = Nodule(
        id=name,
        patient_id=series.patient_id,
        split="train",
        fold=-1,
        context="full",
        shape_kji=(k, j, i),
        spacing_kji_mm=(dz, dy, dx),
        centre_kji=centre_of(upright),
        slice_thickness_mm=series.slice_thickness_mm or dz,
        volume_mm3=round(float(np.mean(sizes.volumes_mm3)), 3),
        long_axis_mm=round(float(np.mean(sizes.long_axes_mm)), 4),
        mask_readers=len(readers),
        series_uid=series.scan.series_uid,
        centre_lps_mm=(x, y, z),
        **said_by_readers(readers, sizes, initial_release),
    )
    return nodule, hu, np.round(upright * 255).astype(np.uint8)


def _box(ct: CTVolume, readers: Sequence[Annotation], edge_mm: float) -> _Box:
    grid = ct.geometry
    dz = float(grid.direction[2, 2] * grid.spacing_mm[2])
    points = np.concatenate([reader.points_mm(1.0) for reader in readers])
    points[:, 2] = (points[:, 2] - grid.origin_lps_mm[2]) / dz
    low, high = points.min(0), points.max(0)
    extent = np.maximum((high - low) * grid.spacing_mm + 2 * MARGIN_MM, edge_mm)
    # the grid is axial, so that i and j, whose extents may be swapped, lie in x and y
    extent[:2] = extent[:2].max()
    box = ct.crop(grid.ijk_to_lps((low + high) / 2), extent.tolist())
    i, j, _ = box.start_ijk
    return _Box(box, (float(i), float(j), box.geometry.origin_lps_mm[2]), dz)
