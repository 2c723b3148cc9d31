"""Finds the stacks of parallel slices that the images of a DICOM series form, and orders them.

References:
    DICOM PS3.3, C.7.6.2 (image plane module).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.dicom_acquisitions import (
    SAME_POSITION_MM,
    Part,
    Placed,
    differing,
    part_acquisitions,
    rank,
)
from resmtnet.ct.dicom_header import CT_IMAGE, Header
from resmtnet.ct.dicom_pixels import same_pixels
from resmtnet.errors import VolumeError

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"

_SAME_COSINE = 1e-3
"""Direction cosines that differ by less are of one orientation: half a pixel across an image."""
_SAME_SPACING = 1e-3
"""As a share of the spacing; also half a pixel across an image."""
_PLANE = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
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


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices of one acquisition, one for each position, ascending along their normal."""

    headers: list[Header]
    positions_mm: NDArray[np.float64]
    """(n,) along the normal."""

    direction: NDArray[np.float64]
    """(3, 3) with columns i, j, normal."""

    spacing_ij_mm: tuple[float, float]
    warnings: tuple[str, ...] = ()


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


def ct_images(headers: Sequence[Header]) -> tuple[list[Header], Counter[str]]:
    """The classic CT images of a series, one slice each, and how many of what else it holds.

    Raises:
        VolumeError: there is none; the message says what the first image is.
    """
    kept, others = [], Counter[str]()
    first: VolumeError | None = None
    for header in headers:
        problem = _not_a_ct_slice(header, headers)
        if problem is None:
            kept.append(header)
            continue
        kind, error = problem
        others[kind] += 1
        first = first or error
    if not kept and first is not None:
        raise first
    return kept, others


def _not_a_ct_slice(header: Header, headers: Sequence[Header]) -> tuple[str, VolumeError] | None:
    """What an image is instead, in a word, and the error that says so."""
    values = header.values
    classic = values.get("SOPClassUID") == CT_IMAGE
    modality = values.get("Modality") or ("CT" if classic else "")
    if modality != "CT":
        return f"of modality {modality or 'unknown'}", VolumeError(
            f"The series {series_info(headers)} has the modality {modality or 'unknown'}; "
            "a CT is needed."
        )
    if values.get("SOPClassUID") == _ENHANCED_CT or header.number("NumberOfFrames", 1.0) > 1:
        return "multi-frame", VolumeError(
            f"{header.path.name} is an enhanced multi-frame CT, which is not supported; "
            "export the series as classic CT, one file per slice, or convert it to NIfTI."
        )
    if header.number("SamplesPerPixel", default=1.0) != 1:
        return "in colour", VolumeError(
            f"{header.path.name} is a colour image; a CT in HU is needed."
        )
    return None


def stacks(headers: Sequence[Header]) -> tuple[list[Part], tuple[str, ...], Counter[str]]:
    """The stacks of parallel slices of a series, the largest first.

    Args:
        headers: CT images.

    Returns:
        Stacks of two positions or more, the elements by which acquisitions were parted, and how
        many images of what kind belong to none.

    Raises:
        VolumeError: there is no such stack.
    """
    planes, others = _parallel(headers)
    found: list[Part] = []
    parted: tuple[str, ...] = ()
    for plane_headers in planes:
        parts, names = part_acquisitions(_placed(plane_headers))
        found += parts
        parted += names
    whole = sorted((part for part in found if len(part) > 1), key=_order)
    for part in found:
        if len(part) == 1:
            others[_kind(part[0].header, planes)] += 1
    if not whole:
        raise VolumeError(
            f"The series {series_info(headers)} has no two parallel slices; "
            "a CT volume needs at least 2."
        )
    return whole, tuple(dict.fromkeys(parted)), others


def _parallel(headers: Sequence[Header]) -> tuple[list[list[Header]], Counter[str]]:
    """Images by size, pixel spacing and orientation, equal within rounding, the most first."""
    groups: list[tuple[tuple[float, float], NDArray[np.float64], list[Header]]] = []
    by_text: dict[tuple[str | None, ...], list[Header]] = {}
    others = Counter[str]()
    for header in headers:
        text = tuple(header.values.get(name) for name in _PLANE)
        if "ImagePositionPatient" in header.values and text in by_text:
            by_text[text].append(header)
            continue
        if "ImagePositionPatient" not in header.values:
            others["localizer" if _is_localizer(header) else "without a position"] += 1
            continue
        size = header.number("Rows"), header.number("Columns")
        spacing = header.numbers("PixelSpacing", 2)
        grid = np.array([*header.numbers("ImageOrientationPatient", 6), *spacing])
        tolerance = np.array([_SAME_COSINE] * 6 + [_SAME_SPACING * abs(x) for x in spacing])
        for of_size, of_grid, group in groups:
            if of_size == size and (np.abs(of_grid - grid) <= tolerance).all():
                group.append(header)
                by_text[text] = group
                break
        else:
            by_text[text] = [header]
            groups.append((size, grid, by_text[text]))
    if not groups:
        raise VolumeError(
            f"No image of the series {series_info(headers)} has a position; "
            "they do not form a volume."
        )
    return sorted((group for _, _, group in groups), key=len, reverse=True), others


def _placed(headers: Sequence[Header]) -> Part:
    """Images of one plane with their position along its normal."""
    direction, spacing_mm = plane(headers[0])
    local = np.array([header.numbers("ImagePositionPatient", 3) for header in headers]) @ direction
    corners = np.rint(local[:, :2] / np.maximum(spacing_mm, 1e-3)) * spacing_mm
    return [
        Placed(float(position), header, f"({i:.1f}, {j:.1f})")
        for position, (i, j), header in zip(local[:, 2], corners, headers, strict=True)
    ]


def _is_localizer(header: Header) -> bool:
    return "LOCALIZER" in header.values.get("ImageType", "").upper().split("\\")


def _kind(header: Header, planes: Sequence[Sequence[Header]]) -> str:
    """What a single image is that belongs to no stack."""
    if _is_localizer(header):
        return "localizer"
    if any(header is one for one in planes[0]):
        return "of another acquisition"
    return "of another orientation, size or pixel spacing"


def _order(part: Part) -> tuple[object, ...]:
    """The largest first; of equal ones the one that was made first."""
    positions = {round(image.position_mm / SAME_POSITION_MM) for image in part}
    first = min(
        (
            rank(image.value("AcquisitionNumber")),
            rank(image.value("AcquisitionTime")),
            rank(image.value("InstanceNumber")),
            str(image.header.path),
        )
        for image in part
    )
    return (-len(positions), *first)


def left_out(n_images: int, others: Counter[str]) -> tuple[str, ...]:
    """The warning about images that belong to no stack."""
    if not others:
        return ()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    return (f"{others.total()} of {n_images} images of the series are left out: {kinds}.",)


def chosen_stack(
    found: Sequence[Part], parted: tuple[str, ...], asked: int | None
) -> tuple[Part, tuple[str, ...]]:
    """The stack to read, and a warning if there are others.

    Args:
        found: the stacks, the largest first.
        parted: the elements by which acquisitions were parted.
        asked: number of the stack to read, from 1; None: the largest.

    Raises:
        VolumeError: there is no such stack; the message lists them.
    """
    names = tuple(dict.fromkeys((*differing(found), *parted)))[:4]
    lines = [f"stack {n}: {_description(part, names)}" for n, part in enumerate(found, start=1)]
    if asked is not None and not 1 <= asked <= len(found):
        raise VolumeError(
            f"Stack {asked} is not in the series, which holds {len(found)}: {'; '.join(lines)}. "
            "Give the number of one of them."
        )
    number = asked or 1
    if len(found) == 1:
        return found[0], ()
    rest = "; ".join(line for n, line in enumerate(lines, start=1) if n != number)
    how = "as asked for" if asked else "the largest, or the first of equal ones"
    return found[number - 1], (
        f"the series holds {len(found)} stacks of slices, which are never mixed. Read is {how}: "
        f"{lines[number - 1]}. Left out: {rest}. Choose another with stack=N (--stack N).",
    )


def _description(part: Part, names: Sequence[str]) -> str:
    """How a listed choice shows a stack, by the elements that tell it from others."""
    positions = [image.position_mm for image in part]
    told = [f"{len(part)} slices from {min(positions):.1f} to {max(positions):.1f} mm"]
    for name in names:
        values = sorted({image.value(name) for image in part})
        text = values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
        told.append(f"{name} {text.strip() or '-'}")
    return ", ".join(told)


def ordered_stack(part: Part) -> Stack:
    """One slice for each position, ascending; copies of an image are left out and told.

    Raises:
        VolumeError: different images lie at one position, and nothing tells which belong together.
    """
    direction, spacing = plane(part[0].header)
    images = sorted(part, key=lambda image: (image.position_mm, str(image.header.path)))
    if images[-1].position_mm - images[0].position_mm <= SAME_POSITION_MM:
        raise VolumeError(
            f"All {len(part)} images of the series {series_info([images[0].header])} lie at one "
            "position; they do not form a volume."
        )
    kept: Part = images[:1]
    copies = 0
    for image in images[1:]:
        if image.position_mm - kept[-1].position_mm > SAME_POSITION_MM:
            kept.append(image)
            continue
        if not same_pixels(kept[-1].header, image.header):
            raise VolumeError(
                f"{kept[-1].header.path.name} and {image.header.path.name} lie at one position "
                f"({image.position_mm:.1f} mm along the slice normal) with other voxels, and "
                "neither acquisition, time, kernel nor number tells which of the "
                f"{len(part)} images belong together. Put the images of one acquisition into a "
                "folder of their own."
            )
        copies += 1
    headers = [image.header for image in kept]
    warnings: tuple[str, ...] = ()
    if copies:
        warnings = (f"{copies} of {len(part)} images are copies of another one: left out.",)
    positions = np.array([image.position_mm for image in kept])
    return Stack(headers, positions, direction, spacing, warnings)


def plane(header: Header) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Direction (3, 3) with columns i, j, normal, and the spacing in mm along i and j."""
    cosines = np.array(header.numbers("ImageOrientationPatient", 6)).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if not ((lengths > 0.5) & (lengths < 2)).all():
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


def check_drift(stack: Stack) -> None:
    """Slices that move sideways make a sheared grid: gantry tilt."""
    corners = np.array([header.numbers("ImagePositionPatient", 3) for header in stack.headers])
    positions = stack.positions_mm
    along = (positions - positions[0])[:, None] * stack.direction[:, 2]
    drift = np.linalg.norm(corners - corners[0] - along, axis=1)
    worst = int(np.argmax(drift))
    if drift[worst] > _MOST_DRIFT_PIXELS * min(stack.spacing_ij_mm):
        angle = np.degrees(np.arctan2(drift[worst], abs(positions[worst] - positions[0])))
        raise VolumeError(
            f"The slices of the series {series_info(stack.headers)} do not lie above one another: "
            f"they shift by up to {drift[worst]:.1f} mm (gantry tilt of about {angle:.1f} degrees)."
            " Resample the series to an upright grid (3D Slicer: DICOM module, acquisition geometry"
            " regularization) and open the result."
        )
