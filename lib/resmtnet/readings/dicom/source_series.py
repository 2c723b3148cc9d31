"""The slices of a CT series, as the objects that are made of it refer to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.dicom_header import is_dicom_file
from resmtnet.errors import VolumeError
from resmtnet.types import Point

_ON_SLICE = 0.25
"""In slices: so far from the centre of a slice a point still lies in its plane."""


class SourceSeries:
    """The headers of one CT series by slice, and where points lie on them."""

    def __init__(self, geometry: Geometry, slices: dict[int, Dataset]) -> None:
        """Connect a grid with the files that it was read from.

        Args:
            geometry: of the CT as it was opened.
            slices: header of each slice by its index k in the grid.
        """
        self.geometry = geometry
        self.slices = slices

    @classmethod
    def open(cls, folder: Path, ct: CTVolume | None = None) -> SourceSeries:
        """Read the headers of a series.

        Args:
            folder: with the series.
            ct: the same, if it is open already.

        Raises:
            VolumeError: it is no DICOM series.
        """
        ct = ct or CTVolume.open(folder)
        geometry = ct.geometry
        slices: dict[int, Dataset] = {}
        # Of a series with several stacks (phases, kernels) only the one that was read.
        for file in sorted(ct.slice_files):
            if not (file.is_file() and is_dicom_file(file)):
                continue
            try:  # force: a file without preamble and meta header is DICOM too
                header = dcmread(file, stop_before_pixels=True, force=True)
            except Exception:  # pydicom raises whatever its parser trips over
                continue
            k = _slice_of(header, ct)
            if k is not None:
                slices.setdefault(k, header)
        if not slices:
            raise VolumeError(
                f"{folder.name} is no DICOM series: SEG and SR can be made of DICOM only."
            )
        return cls(geometry, slices)

    @property
    def any(self) -> Dataset:
        """Return the header of one slice, for what all have in common."""
        return self.slices[min(self.slices)]

    @property
    def series_uid(self) -> str:
        """Return the UID of the series."""
        return str(self.any.SeriesInstanceUID)

    @property
    def frame_of_reference_uids(self) -> set[str]:
        """Return the frames of reference that the slices name; points of another lie elsewhere."""
        named = (str(one.get("FrameOfReferenceUID") or "") for one in self.slices.values())
        return {uid for uid in named if uid}

    @property
    def study_uid(self) -> str:
        """Return the UID of the study."""
        return str(self.any.StudyInstanceUID)

    def nearest(self, point_lps_mm: Point) -> tuple[Dataset, tuple[float, float]]:
        """Return the slice nearest to a point, and the point's column and row on it.

        Columns and rows are those of an SCOORD (PS3.3 C.18.6): the centre of the first pixel is
        (0.5, 0.5).
        """
        i, j, k = (float(x) for x in self.geometry.lps_to_ijk(point_lps_mm))
        nearest = min(self.slices, key=lambda n: abs(n - k))
        return self.slices[nearest], (i + 0.5, j + 0.5)

    def in_one_slice(self, *points_lps_mm: Point) -> bool:
        """Whether all points lie in the plane of one slice of the series."""
        levels = [float(self.geometry.lps_to_ijk(point)[2]) for point in points_lps_mm]
        k = round(levels[0])
        return k in self.slices and all(abs(level - k) <= _ON_SLICE for level in levels)

    def to_lps(self, sop_instance_uid: str, column: float, row: float) -> Point | None:
        """Return the place of a point on a slice; None where the series has no such slice."""
        for k, header in self.slices.items():
            if header.SOPInstanceUID == sop_instance_uid:
                x, y, z = self.geometry.ijk_to_lps((column - 0.5, row - 0.5, k))
                return float(x), float(y), float(z)
        return None


def _slice_of(header: Dataset, ct: CTVolume) -> int | None:
    """Index of the slice that a file holds; None where it is not one of the CT."""
    if str(header.get("SeriesInstanceUID", "")) != ct.image_id:
        return None
    position = header.get("ImagePositionPatient")
    if position is None or len(position) != 3 or header.get("Modality") != "CT":
        return None
    ijk = ct.geometry.lps_to_ijk([float(x) for x in position])
    k = round(float(ijk[2]))
    on_grid = np.abs(ijk - (0, 0, k)).max() < _ON_SLICE
    return k if on_grid and 0 <= k < ct.geometry.size_ijk[2] else None
