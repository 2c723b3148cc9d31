"""Shows findings: a table for the terminal, and a picture of each nodule with its mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.markup import escape
from rich.table import Table

from resmtnet.characteristics import TEXTURE
from resmtnet.cli.output import printable
from resmtnet.ct import CTVolume
from resmtnet.types import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Segment = Sequence[Sequence[float]]

COLOURS = {"benign": "green", "malignant": "red", "indeterminate": "yellow"}

_WINDOW_HU = (-1350.0, 150.0)
_FIELD_MM = 60.0
_COLUMNS = 4


def findings_table(document: Json, title: str | None = None) -> Table:
    """Return the nodules of a findings/1 document as a table; 90% intervals are below each value.

    Args:
        document: of schema resmtnet.findings/1.
        title: stands above the table; default: image and model.
    """
    model, image = document["model"], document["image"]
    table = Table(
        title=escape(printable(title or f"{image['id']} ({model['name']} {model['version']})")),
        title_justify="left",
        box=None,  # its lines would not leave room for the numbers on 80 columns
        padding=(0, 1, 0, 0),
    )
    table.add_column("")
    table.add_column("Class", no_wrap=True)
    for heading in ("P mal.", "Score", "Axes mm", "Diam. mm", "Volume mm3"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Guideline", no_wrap=True)
    for nodule in document["nodules"]:
        name, malignancy = nodule["class"]["name"], nodule["malignancy"]
        table.add_row(
            escape(printable(nodule["id"])),
            f"[{COLOURS[name]}]{name}[/]",
            f"{nodule['class']['probabilities']['malignant']:.2f}",
            _ranged(malignancy["score"], malignancy["interval_90"], 1),
            *_sizes(nodule),
            guideline_text(nodule["guidelines"]),
        )
    return table


def guideline_text(guidelines: Json) -> str:
    r"""Return the category of the one guideline that applies, with its range below.

    >>> guideline_text({"lung_rads": {"category": "4A", "range": ["3", "4A"]}, "fleischner": None})
    'Lung-RADS 4A\n3-4A'
    >>> guideline_text({"lung_rads": None, "fleischner": None})
    '-'
    """
    for key, name in (("lung_rads", "Lung-RADS"), ("fleischner", "Fleischner")):
        found = guidelines.get(key)
        if found:
            low, high = found["range"]
            span = "" if low == high else f"\n{low}-{high}"
            return f"{name} {found['category']}{span}"
    return "-"


def warning_lines(document: Json) -> list[str]:
    """Return the warnings of the image and of each nodule, one line each.

    >>> warning_lines({"warnings": ["thick"], "nodules": [{"id": "N1", "warnings": ["cut"]}]})
    ['thick', 'N1: cut']
    """
    lines = [str(text) for text in document["warnings"]]
    for nodule in document["nodules"]:
        lines += [f"{nodule['id']}: {text}" for text in nodule["warnings"]]
    return lines


def risk_lines(document: Json) -> list[str]:
    """Return the Brock risk of each nodule that has one, or why it has none.

    >>> told = {"probability": 0.032, "interval_90_of_size": [0.021, 0.05]}
    >>> brock = {"without_spiculation": told, "with_spiculation": None, "notes": []}
    >>> risk_lines({"nodules": [{"id": "N1", "risk": {"brock": brock}}]})
    ['N1: Brock risk of cancer 3.2% (2.1-5.0% over the size interval)']
    """
    lines = []
    for nodule in document["nodules"]:
        brock = (nodule.get("risk") or {}).get("brock")
        if brock is None:
            continue
        texts = [
            f"{name}{_percent(told)}"
            for name, told in (
                ("", brock["without_spiculation"]),
                ("with spiculation told ", brock["with_spiculation"]),
            )
            if told
        ]
        text = "; ".join(texts) or f"- ({'; '.join(brock['notes'])})"
        lines.append(f"{nodule['id']}: Brock risk of cancer {text}")
    return lines


def _percent(told: Json) -> str:
    text, interval = f"{told['probability']:.1%}", told["interval_90_of_size"]
    if not interval:
        return text
    return f"{text} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f}% over the size interval)"


def _sizes(nodule: Json) -> tuple[str, str, str]:
    """Return axes, mean diameter and volume; below it the solid part of what looks part-solid."""
    size = nodule["size"]
    intervals, solid_mm = size["interval_90"], size.get("solid_component_mm")
    part_solid = nodule.get("characteristics", {}).get(TEXTURE.name, {}).get("name") == "part-solid"
    solid = f"\nsolid {solid_mm:.1f}" if part_solid and solid_mm is not None else ""
    axes = f"{_number(size['long_axis_mm'], 1)} x {_number(size['short_axis_mm'], 1)}"
    diameter, volume = size["mean_diameter_mm"], size["volume_mm3"]
    return (
        axes,
        _ranged(diameter, intervals.get("mean_diameter_mm"), 1) + solid,
        _ranged(volume, intervals.get("volume_mm3"), 0),
    )


def _ranged(value: float | None, interval: Sequence[float] | None, digits: int) -> str:
    text = _number(value, digits)
    if value is None or not interval:
        return text
    return f"{text}\n{_number(interval[0], digits)}-{_number(interval[1], digits)}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def save_overlay(
    path: Path,
    ct: CTVolume,
    document: Json,
    mask: NDArray[np.uint8],
    long_axes: Mapping[str, Segment] | None = None,
) -> None:
    """Write a PNG: for each nodule an axial slice with the outline of the mask and the long axis.

    Args:
        path: of the PNG.
        ct: that was asked about.
        document: the answer, schema resmtnet.findings/1.
        mask: uint8 [k, j, i] on the grid of the CT; what is not 0 is a nodule.
        long_axes: the two ends of a nodule's long axis, LPS mm, by its id.

    Raises:
        InputError: see CTVolume.crop.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nodules = document["nodules"]
    columns = max(1, min(_COLUMNS, len(nodules)))
    rows = max(1, -(-len(nodules) // columns))
    figure = Figure(figsize=(3.6 * columns, 3.6 * rows), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, nodule in zip(grid.flat, nodules, strict=False):
        _draw_nodule(axes, ct, nodule, mask, (long_axes or {}).get(nodule["id"]))
    figure.savefig(path, dpi=110)


def _draw_nodule(
    axes: Axes, ct: CTVolume, nodule: Json, mask: NDArray[np.uint8], long_axis: Segment | None
) -> None:
    """Draw the slice of the long axis, or of the centroid; the patient's left is on the right."""
    centre = np.asarray(nodule["centroid_lps_mm"] or nodule["centre_lps_mm"], float)
    if long_axis is not None:
        centre = np.mean(np.asarray(long_axis, float), axis=0)
    x_mm, y_mm, hu, inside = _slice_at(ct, centre, mask)
    low, high = _WINDOW_HU
    axes.pcolormesh(x_mm, y_mm, hu, shading="gouraud", cmap="gray", vmin=low, vmax=high)
    colour = COLOURS[nodule["class"]["name"]]
    if inside.any() and not inside.all():
        axes.contour(x_mm, y_mm, inside.astype(float), [0.5], colors=[colour], linewidths=1.4)
    if long_axis is not None:
        ends = np.asarray(long_axis, float)
        axes.plot(ends[:, 0], ends[:, 1], color="cyan", linewidth=1.2)
    axes.set_xlim(centre[0] - _FIELD_MM / 2, centre[0] + _FIELD_MM / 2)
    axes.set_ylim(centre[1] + _FIELD_MM / 2, centre[1] - _FIELD_MM / 2)
    axes.set_aspect("equal")
    size = nodule["size"]
    axes.text(
        *(0.02, 0.98),
        f"{nodule['id']} {nodule['class']['name']}  "
        f"p={nodule['class']['probabilities']['malignant']:.2f}  "
        f"score {nodule['malignancy']['score']:.1f}\n"
        f"{_number(size['mean_diameter_mm'], 1)} mm  {_number(size['volume_mm3'], 0)} mm3",
        transform=axes.transAxes,
        verticalalignment="top",
        color="white",
        fontsize=9,
        bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.6},
    )


def _slice_at(
    ct: CTVolume, centre_lps_mm: ArrayLike, mask: NDArray[np.uint8]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return LPS x, LPS y (mm), HU and mask of the axial-most slice around a point, 2D each."""
    crop = ct.crop(centre_lps_mm, (_FIELD_MM + 4, _FIELD_MM + 4, 1.0))
    axis = crop.geometry.slice_axis
    level = round(float(crop.geometry.lps_to_ijk(centre_lps_mm)[axis]))
    level = int(np.clip(level, 0, crop.geometry.size_ijk[axis] - 1))
    index = np.stack(np.meshgrid(*map(np.arange, crop.geometry.size_ijk), indexing="ij"), axis=-1)
    plane = np.take(index, level, axis=axis)
    lps_mm = crop.geometry.ijk_to_lps(plane)
    hu = crop.hu[plane[..., 2], plane[..., 1], plane[..., 0]]
    whole = plane + np.asarray(crop.start_ijk)
    valid = ((whole >= 0) & (whole < mask.shape[::-1])).all(axis=-1)
    inside = np.zeros(valid.shape, dtype=bool)
    i, j, k = whole[valid].T
    inside[valid] = mask[k, j, i] > 0
    return lps_mm[..., 0], lps_mm[..., 1], hu, inside
