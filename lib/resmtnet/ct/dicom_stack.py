"""Checks that the images of a DICOM series form one stack of slices, and orders them.

References:
    DICOM PS3.3, C.7.6.2 (image plane module).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.dicom_header import CT_IMAGE, Header
from resmtnet.errors import VolumeError

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"

_SAME_POSITION_MM = 0.01
_MOST_DRIFT_PIXELS = 0.5
"""Slices may lie aside of their common normal by so much; beyond it the grid is sheared."""


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder."""

    uid: str
    """SeriesInstanceUID."""

    modality: str
    description: str
    n_images: int
    first_file: Path
    """A file of the series; `CTVolume.open` takes it for the series."""

    def __str__(self) -> str:
        return f"{self.uid} ({self.modality}, {self.description or '-'}, {self.n_images} images)"


def series_info(headers: Sequence[Header]) -> SeriesInfo:
    """What a list of series says about one, from the headers of its images."""
    values = headers[0].values
    return SeriesInfo(
        values.get("SeriesInstanceUID", ""),
        values.get("Modality", ""),
        values.get("SeriesDescription", ""),
        len(headers),
        min(header.path for header in headers),
    )


def check_modality(headers: Sequence[Header]) -> None:
    """Raises a VolumeError unless the images are classic CT, one slice each."""
    values = headers[0].values
    classic = values.get("SOPClassUID") == CT_IMAGE
    modality = values.get("Modality") or ("CT" if classic else "")
    if modality != "CT":
        raise VolumeError(
            f"The series {series_info(headers)} has the modality {modality or 'unknown'}; "
            "a CT is needed."
        )
    for header in headers:
        frames = header.number("NumberOfFrames", default=1.0)
        if header.values.get("SOPClassUID") == _ENHANCED_CT or frames > 1:
            raise VolumeError(
                f"{header.path.name} is an enhanced multi-frame CT, which is not supported; "
                "export the series as classic CT, one file per slice, or convert it to NIfTI."
            )
        if header.number("SamplesPerPixel", default=1.0) != 1:
            raise VolumeError(f"{header.path.name} is a colour image; a CT in HU is needed.")


def one_stack(headers: Sequence[Header]) -> tuple[list[Header], tuple[str, ...]]:
    """The largest group of images of one size, spacing and orientation: a localizer is left out."""
    groups: dict[tuple[object, ...], list[Header]] = defaultdict(list)
    unplaced = 0
    for header in headers:
        if "ImagePositionPatient" not in header.values:
            unplaced += 1
            continue
        orientation = np.round(header.numbers("ImageOrientationPatient", 6), 3) + 0.0
        size = (header.values.get(name) for name in ("Rows", "Columns", "PixelSpacing"))
        groups[(*size, *orientation.tolist())].append(header)
    if not groups:
        raise VolumeError(
            f"No image of the series {series_info(headers)} has a position; "
            "they do not form a volume."
        )
    stack = max(groups.values(), key=len)
    left_out = len(headers) - len(stack)
    if len(stack) < 2:
        raise VolumeError(
            f"The series {series_info(headers)} has no two parallel slices; "
            "a CT volume needs at least 2."
        )
    if not left_out:
        return stack, ()
    return stack, (
        f"{left_out} of {len(headers)} images of the series have no position, or another "
        "orientation, size or pixel spacing (localizer?): left out.",
    )


def plane(header: Header) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Direction (3, 3) with columns i, j, normal, and the spacing in mm along i and j."""
    cosines = np.array(header.numbers("ImageOrientationPatient", 6)).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if (lengths < 0.5).any():
        raise VolumeError(
            f"{header.path.name}: ImageOrientationPatient is {cosines.ravel().tolist()}, "
            "two unit vectors are needed."
        )
    row, column = cosines / lengths[:, None]
    if abs(float(row @ column)) > 1e-3:
        raise VolumeError(
            f"{header.path.name}: the row and column directions {cosines.tolist()} are not "
            "orthogonal; the header is damaged."
        )
    # PixelSpacing: between rows (along j) first, PS3.3 10.7.1.3.
    spacing_j, spacing_i = header.numbers("PixelSpacing", 2)
    direction = np.stack([row, column, np.cross(row, column)], axis=1)
    return direction, (spacing_i, spacing_j)


def sorted_slices(
    headers: Sequence[Header], direction: NDArray[np.float64]
) -> tuple[list[Header], NDArray[np.float64], tuple[str, ...]]:
    """One slice for each position along the normal, ascending; a warning if there were more."""

    def key(pair: tuple[float, Header]) -> tuple[float, float, str]:
        """The first acquisition wins where a position has several images."""
        header = pair[1]
        order = (
            header.number("AcquisitionNumber", default=0.0),
            header.number("InstanceNumber", default=0.0),
        )
        return (*order, str(header.path))

    placed = [
        (float(np.dot(header.numbers("ImagePositionPatient", 3), direction[:, 2])), header)
        for header in headers
    ]
    placed.sort(key=key)
    placed.sort(key=lambda pair: round(pair[0] / _SAME_POSITION_MM))
    kept = placed[:1]
    for pair in placed[1:]:
        if pair[0] - kept[-1][0] > _SAME_POSITION_MM:
            kept.append(pair)
    if len(kept) < 2:
        raise VolumeError(
            f"All {len(headers)} images of the series {series_info(headers)} lie at one position; "
            "they do not form a volume."
        )
    doubles = len(placed) - len(kept)
    warnings: tuple[str, ...] = ()
    if doubles:
        warnings = (
            f"{doubles} of {len(placed)} images lie where another image lies (copies, or a second "
            "acquisition): the first acquisition is used.",
        )
    positions = np.array([position for position, _ in kept])
    return [header for _, header in kept], positions, warnings


def check_drift(
    stack: Sequence[Header],
    positions_mm: NDArray[np.float64],
    direction: NDArray[np.float64],
    spacing_mm: tuple[float, float],
) -> None:
    """Slices that move sideways make a sheared grid: gantry tilt."""
    corners = np.array([header.numbers("ImagePositionPatient", 3) for header in stack])
    along = (positions_mm - positions_mm[0])[:, None] * direction[:, 2]
    drift = np.linalg.norm(corners - corners[0] - along, axis=1)
    worst = int(np.argmax(drift))
    if drift[worst] > _MOST_DRIFT_PIXELS * min(spacing_mm):
        angle = np.degrees(np.arctan2(drift[worst], abs(positions_mm[worst] - positions_mm[0])))
        raise VolumeError(
            f"The slices of the series {series_info(stack)} do not lie above one another: they "
            f"shift by up to {drift[worst]:.1f} mm (gantry tilt of about {angle:.1f} degrees). "
            "Resample the series to an upright grid (3D Slicer: DICOM module, acquisition geometry "
            "regularization) and open the result."
        )
