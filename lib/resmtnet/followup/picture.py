"""A picture of a comparison: each nodule before and now, side by side, with its outline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding
from resmtnet.followup.block import SHARED
from resmtnet.followup.compare import Comparison
from resmtnet.followup.look import place_of
from resmtnet.types import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WINDOW_HU = (-1350.0, 150.0)
_FIELD_MM = 60.0
_COLOUR = "#ffd24a"


def save_picture(path: Path, comparison: Comparison, prior: CTVolume, current: CTVolume) -> None:
    """Write a PNG with a row for each nodule: the prior CT on the left, the current on the right.

    Axial slices of 60 mm through the middle of the nodule, or through the place where it would
    lie; the patient's left is on the right.

    Args:
        path: of the PNG.
        comparison: of both CTs.
        prior: the earlier CT.
        current: the later one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before = {one.id: one for one in comparison.prior}
    rows: list[tuple[Finding | None, Point, Finding | None, Point, str]] = []
    for finding in comparison.current:
        told = finding.prior or {}
        was = before.get(told.get("nodule_id") or "")
        place = place_of(was) if was else tuple(told["place_lps_mm"])
        word = told["trend"] or told["status"]
        rows.append((was, place, finding, place_of(finding), word))
    rows += [
        (gone.prior, place_of(gone.prior), None, gone.place_lps_mm, gone.status)
        for gone in comparison.gone
    ]
    count = max(1, len(rows))
    figure = Figure(figsize=(7.2, 3.7 * count), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(count, 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for (left, right), (was, was_at, now, now_at, word) in zip(grid, rows, strict=False):
        without = "paired with another one" if word == SHARED else "nothing seen here"
        _draw(left, prior, was, was_at, "prior", without)
        _draw(right, current, now, now_at, f"now: {word}", without)
    figure.savefig(path, dpi=110)


def _draw(
    axes: Axes,
    ct: CTVolume,
    finding: Finding | None,
    place: Point,
    title: str,
    without: str = "nothing seen here",
) -> None:
    crop = ct.crop(place, (_FIELD_MM + 4, _FIELD_MM + 4, 1.0))
    axis = crop.geometry.slice_axis
    level = round(float(crop.geometry.lps_to_ijk(place)[axis]))
    level = int(np.clip(level, 0, crop.geometry.size_ijk[axis] - 1))
    index = np.stack(np.meshgrid(*map(np.arange, crop.geometry.size_ijk), indexing="ij"), axis=-1)
    plane = np.take(index, level, axis=axis)
    lps_mm = crop.geometry.ijk_to_lps(plane)
    hu = crop.hu[plane[..., 2], plane[..., 1], plane[..., 0]]
    x_mm, y_mm = lps_mm[..., 0], lps_mm[..., 1]
    low, high = _WINDOW_HU
    axes.pcolormesh(x_mm, y_mm, hu, shading="gouraud", cmap="gray", vmin=low, vmax=high)
    inside = _inside(finding, plane + np.asarray(crop.start_ijk)) if finding else None
    if inside is not None and inside.any() and not inside.all():
        axes.contour(x_mm, y_mm, inside.astype(float), [0.5], colors=[_COLOUR], linewidths=1.4)
    if finding is None:
        axes.plot(place[0], place[1], "+", color=_COLOUR, markersize=14)
    axes.set_xlim(place[0] - _FIELD_MM / 2, place[0] + _FIELD_MM / 2)
    axes.set_ylim(place[1] + _FIELD_MM / 2, place[1] - _FIELD_MM / 2)
    axes.set_aspect("equal")
    axes.text(
        *(0.02, 0.98),
        f"{title}\n{_size(finding) if finding else without}",
        transform=axes.transAxes,
        verticalalignment="top",
        color="white",
        fontsize=9,
        bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.6},
    )


def _inside(finding: Finding, index_ijk: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which voxels of a plane lie in the mask of a finding."""
    inside = np.zeros(index_ijk.shape[:2], bool)
    if finding.mask is None or finding.start_ijk is None:
        return inside
    local = index_ijk - np.asarray(finding.start_ijk)
    valid = ((local >= 0) & (local < finding.mask.shape[::-1])).all(axis=-1)
    i, j, k = local[valid].T
    inside[valid] = finding.mask[k, j, i] > 0
    return inside


def _size(finding: Finding) -> str:
    mm, mm3 = finding.size.mean_diameter_mm, finding.size.volume_mm3
    if mm is None or mm3 is None:
        return f"{finding.id}, not measured"
    return f"{finding.id}  {mm:.1f} mm  {mm3:.0f} mm3"
