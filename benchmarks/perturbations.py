"""Changes of a CT that should not change the prediction, and the size of their effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.volume import CTVolume
from resmtnet.errors import InputError
from resmtnet.findings import Finding, finite
from resmtnet.types import Array, Json, Point

Click = tuple[CTVolume, Point]
"""A CT and the point asked for, LPS mm."""

_HU_LOW, _HU_HIGH = -1024, 3071


def held_around(click: Click, extent_mm: float) -> Click:
    """Return the part of a CT around the point, in memory.

    Args:
        click: any CT.
        extent_mm: full width of the box along the LPS axes.

    Returns:
        The CT's own voxels in that box; what lies outside the CT is cut off, not filled.
    """
    ct, point = click
    corners = ct.geometry.lps_to_ijk(np.add(point, np.array([[-0.5], [0.5]]) * extent_mm))
    low, high = np.sort(corners, axis=0)
    first = np.maximum(np.floor(low), 0).astype(int)
    last = np.minimum(np.ceil(high) + 1, ct.geometry.size_ijk).astype(int)
    (i, j, k), (i1, j1, k1) = first.tolist(), last.tolist()
    return _click(ct.array()[k:k1, j:j1, i:i1], ct.geometry.sub(first, last - first), ct, point)


def flipped(click: Click, axis: int) -> Click:
    """Mirror what is seen along a voxel axis.

    Args:
        click: any CT.
        axis: 0, 1 or 2 for k, j or i.
    """
    ct, point = click
    ijk = ct.geometry.lps_to_ijk(point)
    ijk[2 - axis] = ct.geometry.size_ijk[2 - axis] - 1 - ijk[2 - axis]
    hu = np.flip(ct.array(), axis)
    return _click(hu, ct.geometry, ct, ct.geometry.ijk_to_lps(ijk))


def rotated(click: Click, axes: tuple[int, int], turns: int = 1) -> Click:
    """Turn what is seen by quarter turns, as numpy.rot90 does; voxel spacings turn along.

    Args:
        click: any CT.
        axes: the two array axes (0, 1, 2 for k, j, i) of the plane.
        turns: how often.
    """
    for _ in range(turns % 4):
        click = flipped(_transposed(click, axes), axes[0])
    return click


def shifted(click: Click, voxels_ijk: Sequence[float]) -> Click:
    """Move the point by voxels (i, j, k); the CT stays."""
    ct, point = click
    return ct, _point(ct.geometry.ijk_to_lps(ct.geometry.lps_to_ijk(point) + voxels_ijk))


def offset(click: Click, offset_hu: float) -> Click:
    """Add a number to every HU."""
    return _changed(click, click[0].array() + offset_hu)


def noisy(click: Click, deviation_hu: float, generator: np.random.Generator) -> Click:
    """Add white Gaussian noise."""
    hu = click[0].array()
    return _changed(click, hu + generator.normal(0, deviation_hu, hu.shape))


def blurred(click: Click, sigma_px: float) -> Click:
    """Blur in the plane of the slices (array axes j, i), as a soft kernel does."""
    hu = click[0].array().astype(np.float32)
    return _changed(click, gaussian_filter(hu, (0, sigma_px, sigma_px)))


def sharpened(click: Click, sigma_px: float, amount: float) -> Click:
    """Add a share of what a blur takes away, as a sharp kernel does (unsharp masking)."""
    hu = click[0].array().astype(np.float32)
    return _changed(click, hu + amount * (hu - gaussian_filter(hu, (0, sigma_px, sigma_px))))


def thick_slices(click: Click, thickness_mm: float) -> Click:
    """Average slices to thicker ones; each new slice is the mean over its own thickness.

    Args:
        click: a CT whose slices are stacked along k.
        thickness_mm: of the new slices, which follow without a gap; an incomplete last one is
            dropped.

    Raises:
        InputError: slices are not along k, thinner than now, or the CT is not as high.
    """
    ct, point = click
    grid = ct.geometry
    spacing_mm, count = grid.spacing_mm[2], grid.size_ijk[2]
    made = int(count * spacing_mm / thickness_mm + 1e-6)
    if grid.slice_axis != 2 or thickness_mm < spacing_mm or not made:
        raise InputError(
            f"slices of {thickness_mm} mm from {count} of {spacing_mm} mm along axis "
            f"{'ijk'[grid.slice_axis]}: they must be along k, get no thinner, and fit in"
        )
    edges = np.arange(made + 1) * thickness_mm / spacing_mm  # in old slices
    below = np.clip(edges[:, None] - np.arange(count), 0, 1)  # share of each below each edge
    weights = np.diff(below, axis=0) * spacing_mm / thickness_mm
    hu = np.tensordot(weights, ct.array(), 1)
    origin = grid.ijk_to_lps((0, 0, (thickness_mm / spacing_mm - 1) / 2))
    i, j, _ = grid.size_ijk
    spacing = (*grid.spacing_mm[:2], thickness_mm)
    thick = Geometry((i, j, made), spacing, _point(origin), grid.direction)
    return _click(hu, thick, ct, point)


def points_inside(
    mask: NDArray[np.bool_], geometry: Geometry, count: int, generator: np.random.Generator
) -> list[Point]:
    """Draw voxel centres of a mask, each at most once.

    Args:
        mask: bool [k, j, i].
        geometry: of the mask's voxels.
        count: points to draw; fewer where the mask is smaller.
        generator: of the draw.

    Returns:
        LPS mm.
    """
    inside = np.argwhere(mask)
    chosen = generator.permutation(inside)[:count]
    return [_point(p) for p in geometry.ijk_to_lps(chosen[:, ::-1]).reshape(-1, 3)]


@dataclass(frozen=True)
class Change:
    """What a change of the input did to one answer."""

    probability: float
    """|change| of the probability of malignant."""
    diameter: float | None
    """|change| of the measured equivalent diameter as a share; None unless both have a mask."""
    renamed: bool
    """The class has another name."""
    lost_mask: bool | None
    """There is no mask any more; None where there was none before."""

    @classmethod
    def between(cls, before: Finding, after: Finding) -> Change:
        """Compare two answers for one nodule."""
        sizes = [_measured_mm(finding) for finding in (before, after)]
        was, now = sizes
        return cls(
            probability=abs(after.probability_malignant - before.probability_malignant),
            diameter=None if was is None or now is None else abs(now / was - 1),
            renamed=before.class_name != after.class_name,
            lost_mask=None if was is None else now is None,
        )


def summarise_changes(changes: Sequence[Change]) -> Json:
    """Return medians, 95th percentiles, shares and counts of changes; None where undefined.

    >>> one, two = Change(0.1, 0.02, False, False), Change(0.3, None, True, True)
    >>> found = summarise_changes([one, two])
    >>> found["probability_median"], found["diameter_median"], found["lost_masks"]
    (0.2, 0.02, 1)
    """
    diameters = [c.diameter for c in changes if c.diameter is not None]
    probabilities = [c.probability for c in changes]
    return {
        "nodules": len(changes),
        "probability_median": quantile(probabilities, 0.5),
        "probability_p95": quantile(probabilities, 0.95),
        "diameter_median": quantile(diameters, 0.5),
        "diameter_p95": quantile(diameters, 0.95),
        "renamed_share": finite(float(np.mean([c.renamed for c in changes]))) if changes else None,
        "lost_masks": sum(bool(c.lost_mask) for c in changes),
        "with_mask": sum(c.lost_mask is not None for c in changes),
    }


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return a quantile rounded for JSON, or None of nothing.

    >>> quantile([1.0, 2.0, 4.0], 0.5), quantile([], 0.5)
    (2.0, None)
    """
    return finite(float(np.quantile(values, share))) if len(values) else None


def _measured_mm(finding: Finding) -> float | None:
    return None if finding.mask is None else finding.size.equivalent_diameter_mm


def _transposed(click: Click, axes: tuple[int, int]) -> Click:
    ct, point = click
    order = [0, 1, 2]
    order[axes[0]], order[axes[1]] = axes[1], axes[0]
    hu = ct.array().transpose(order)
    ijk_order = [2 - axis for axis in reversed(order)]
    grid = ct.geometry
    (i, j, k), (di, dj, dk) = (
        [values[axis] for axis in ijk_order] for values in (grid.size_ijk, grid.spacing_mm)
    )
    turned = Geometry((int(i), int(j), int(k)), (di, dj, dk), grid.origin_lps_mm, grid.direction)
    return _click(hu, turned, ct, turned.ijk_to_lps(grid.lps_to_ijk(point)[ijk_order]))


def _changed(click: Click, hu: NDArray[Any]) -> Click:
    ct, point = click
    return _click(np.clip(hu, _HU_LOW, _HU_HIGH), ct.geometry, ct, point)


def _click(hu: NDArray[Any], geometry: Geometry, ct: CTVolume, point: Point | Array) -> Click:
    rounded = np.rint(hu) if hu.dtype.kind == "f" else hu
    made = CTVolume.from_array(
        np.ascontiguousarray(rounded, np.int16),
        geometry.spacing_mm[::-1],
        geometry.origin_lps_mm,
        geometry.direction,
        ct.image_id,
    )
    return made, _point(point)


def _point(values: Sequence[float] | Array) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
