"""The contours that one LIDC reader drew around a nodule: its sizes, and the voxels they cover.

A contour is a polygon through pixel centres of one axial slice. LIDC draws it on the first pixels
outside the nodule; its area times the slice spacing is the published volume, so it is used as it
is. A contour with `inclusion` False bounds a hole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.consensus import mean_pairwise_dice, polygon_coverage


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed polygon in one axial slice."""

    z_mm: float
    """Height of the slice: z of its ImagePositionPatient, LPS."""

    points_xy: NDArray[np.float64]
    """[n, 2] (column, row) of the series' images; integer positions are pixel centres."""

    inclusion: bool = True
    """False: the polygon bounds a hole in the nodule."""

    @property
    def area_px(self) -> float:
        """Area by the shoelace formula, in pixels."""
        x, y = self.points_xy.T
        return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


@dataclass(frozen=True, eq=False)
class Annotation:
    """What one reader says of one nodule."""

    contours: tuple[Contour, ...]

    ratings: Mapping[str, int | None]
    """By characteristic, as stored: it may lie outside its scale."""

    def points_mm(self, pixel_mm: float) -> NDArray[np.float64]:
        """Return all vertices, [n, 3] (column, row, z) in mm."""
        parts = [
            np.column_stack([c.points_xy * pixel_mm, np.full(len(c.points_xy), c.z_mm)])
            for c in self.contours
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Scan:
    """One series and all that its readers marked."""

    series_uid: str

    annotations: tuple[Annotation, ...]

    patient_id: str | None = None
    """None where the annotations do not name the patient."""

    initial_release: bool | None = None
    """Of the first 399 LIDC cases (see consensus.trusted_ratings); None: not known."""

    slice_thickness_mm: float | None = None


@dataclass(frozen=True)
class ReaderSizes:
    """The sizes that every reader's contours give, and how far the masks agree."""

    volumes_mm3: tuple[float, ...]
    long_axes_mm: tuple[float, ...]
    short_axes_mm: tuple[float, ...]
    dice: float | None


def reader_sizes(
    readers: Sequence[Annotation],
    pixel_mm: float,
    dz_mm: float,
    masks: Sequence[NDArray[Any]] | None = None,
) -> ReaderSizes:
    """Measure every reader's contours.

    Args:
        readers: of one nodule.
        pixel_mm: in-plane spacing.
        dz_mm: slice spacing.
        masks: every reader's coverage of the same voxels; None: of the box around all contours.
    """
    axes = [axes_mm(reader.contours, pixel_mm) for reader in readers]
    if masks is None:
        start, shape = bounding_box(readers, dz_mm)
        masks = [coverage(reader.contours, start, dz_mm, shape) for reader in readers]
    dice = mean_pairwise_dice(masks)
    return ReaderSizes(
        tuple(round(volume_mm3(reader.contours, pixel_mm, dz_mm), 3) for reader in readers),
        tuple(round(long, 4) for long, _ in axes),
        tuple(round(short, 4) for _, short in axes),
        None if dice is None else round(dice, 5),
    )


def volume_mm3(contours: Sequence[Contour], pixel_mm: float, dz_mm: float) -> float:
    """Return the sum of the polygons' areas, holes subtracted, times the slice spacing."""
    area = sum(c.area_px if c.inclusion else -c.area_px for c in contours)
    return max(0.0, area * pixel_mm**2 * dz_mm)


def axes_mm(contours: Sequence[Contour], pixel_mm: float) -> tuple[float, float]:
    """Return the long axis of a reader's contours, and the short axis in the same slice.

    Returns:
        The greatest distance of two vertices of one contour, over all contours that bound no
        hole, and the greatest extent of that contour perpendicular to it; NaN without contours.

    >>> square = Contour(0.0, np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0], [0.0, 3.0]]))
    >>> long, short = axes_mm([square], 0.5)
    >>> long, round(short, 3)
    (2.5, 2.4)
    """
    best = (math.nan, math.nan)
    for contour in contours:
        if not contour.inclusion:
            continue
        points = contour.points_xy * pixel_mm
        offsets = points[:, None] - points[None]
        distance = np.hypot(offsets[..., 0], offsets[..., 1])
        long = float(distance.max())
        if long > best[0] or math.isnan(best[0]):
            one, other = np.unravel_index(int(distance.argmax()), distance.shape)
            along = points[other] - points[one]
            across = points @ np.array([-along[1], along[0]]) / (long or 1.0)
            best = (long, float(np.ptp(across)))
    return best


def bounding_box(
    readers: Sequence[Annotation], dz_mm: float
) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Return the box of voxels around all contours.

    Returns:
        (column, row, z in mm) of its first voxel, and its shape [k, j, i].
    """
    points = np.concatenate([reader.points_mm(1.0) for reader in readers])
    low, high = points.min(0), points.max(0)
    low[:2], high[:2] = np.floor(low[:2]), np.ceil(high[:2])
    k, j, i = round((high[2] - low[2]) / dz_mm) + 1, high[1] - low[1] + 1, high[0] - low[0] + 1
    x, y, z = (float(value) for value in low)
    return (x, y, z), (int(k), int(j), int(i))


def coverage(
    contours: Sequence[Contour],
    start_xyz: tuple[float, float, float],
    dz_mm: float,
    shape_kji: tuple[int, int, int],
) -> NDArray[np.float32]:
    """Return the share of each voxel of a box that lies inside a reader's contours.

    Args:
        contours: of one reader; those outside the box are left out.
        start_xyz: (column, row, z in mm) of the first voxel of the box.
        dz_mm: slice spacing; negative where slices run downwards.
        shape_kji: of the box.

    Returns:
        [k, j, i] in 0..1.
    """
    inside = np.zeros(shape_kji, np.float32)
    x, y, bottom_mm = start_xyz
    for contour in contours:
        level = round((contour.z_mm - bottom_mm) / dz_mm)
        if not 0 <= level < shape_kji[0]:
            continue
        share = polygon_coverage(contour.points_xy - (x, y), shape_kji[1:])
        inside[level] += share if contour.inclusion else -share
    return inside.clip(0, 1)


def centre_of(share: NDArray[Any]) -> tuple[float, float, float]:
    """Return the middle (k, j, i) of the box around what at least half of the readers marked.

    Args:
        share: mean share of the readers, 0..1; where nobody agrees, all that is marked counts.
    """
    marked = share >= 0.5 if (share >= 0.5).any() else share > 0
    index = np.nonzero(marked)
    k, j, i = ((axis.min() + axis.max()) / 2 for axis in index)
    return float(k), float(j), float(i)
