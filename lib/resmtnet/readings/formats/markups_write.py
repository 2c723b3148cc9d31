"""Findings as 3D Slicer Markups: a point, the long axis and a box for each nodule."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import TEXTURE
from resmtnet.ct import Geometry
from resmtnet.findings import Finding
from resmtnet.readings.formats.label_text import SOLID
from resmtnet.readings.formats.markups_json import (
    BOX,
    LINE,
    POINTS,
    ControlPoint,
    Markup,
    markups_document,
)
from resmtnet.types import Json, Point

_COLOURS = {
    "benign": (0.36, 0.75, 0.36),
    "malignant": (0.86, 0.25, 0.25),
    "indeterminate": (0.95, 0.70, 0.20),
}
_MIXED_COLOUR = (0.30, 0.60, 0.95)
_UNKNOWN_DIAMETER_MM = 10.0


def write_markups(findings: Sequence[Finding], geometry: Geometry) -> Path:
    """Writes the markups of some findings to a temporary file that ends in .json.

    Args:
        findings: of one CT.
        geometry: the grid of the CT.

    Returns:
        The file; whoever asked for it deletes it.
    """
    handle, name = tempfile.mkstemp(prefix="resmtnet-", suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(markups(findings, geometry), file, allow_nan=False)
    return Path(name)


def markups(findings: Sequence[Finding], geometry: Geometry) -> Json:
    """The markups document: one list of points, then a line and a box for each nodule.

    Args:
        findings: of one CT; without a mask a nodule has no line, and its box is a cube of its
            equivalent diameter.
        geometry: the grid of the CT.

    Returns:
        JSON of Slicer's Markups schema 1.0.3, LPS mm.
    """
    points = tuple(
        ControlPoint(f.centroid_lps_mm or f.centre_lps_mm, point_label(f), description(f))
        for f in findings
    )
    written = [Markup(POINTS, "Res-MTNet nodules", points).to_json(_MIXED_COLOUR)]
    for finding in findings:
        colour = _COLOURS[finding.class_name]
        written += [one.to_json(colour) for one in line_and_box(finding, geometry)]
    return markups_document(written)


def point_label(finding: Finding) -> str:
    """What is written beside the nodule: its class and the probability of that class.

    The probability of an indeterminate nodule is that of "malignant".
    """
    malignant = finding.probability_malignant
    percent = f"{100 * (1 - malignant if finding.class_name == 'benign' else malignant):.0f}%"
    if finding.class_name == "indeterminate":
        percent = f"({percent} malignant)"
    return f"{finding.id} {finding.class_name} {percent}"


def description(finding: Finding) -> str:
    """What is kept when the reader renames the point.

    The solid part of a nodule that looks part-solid is told too. Such as
    "score=4.1; diameter_mm=12.4 [Res-MTNet: score 90% 3.3 to 4.8; Lung-RADS 4A]".
    """
    size = finding.size
    diameter = size.mean_diameter_mm or size.equivalent_diameter_mm
    known = [] if diameter is None else [f"diameter_mm={diameter:.1f}"]
    texture = finding.characteristics.get(TEXTURE.name)
    if size.solid_component_mm is not None and texture and texture.name == "part-solid":
        known.append(f"{SOLID}={size.solid_component_mm:.1f}")
    numbers = "; ".join([f"score={finding.malignancy.score:.1f}", *known])
    low, high = finding.malignancy.interval_90
    told = [f"score 90% {low:.1f} to {high:.1f}", *_categories(finding), *finding.warnings]
    return f"{numbers} [Res-MTNet: {'; '.join(told).replace('[', '(').replace(']', ')')}]"


def _categories(finding: Finding) -> list[str]:
    """The guideline categories that are known, with their range where it is wider."""
    told = []
    for key, name in (("lung_rads", "Lung-RADS"), ("fleischner", "Fleischner")):
        found = finding.guidelines.get(key)
        if isinstance(found, Mapping) and found.get("category"):
            ends = [str(end) for end in found.get("range") or ()]
            wider = f" ({' to '.join(ends)})" if len(set(ends)) > 1 else ""
            told.append(f"{name} {found['category']}{wider}")
    return told


def line_and_box(finding: Finding, geometry: Geometry) -> list[Markup]:
    """The long axis and the box of one nodule; without a mask a cube of its diameter."""
    if finding.mask is None or finding.start_ijk is None or not finding.mask.any():
        radius = (finding.size.equivalent_diameter_mm or _UNKNOWN_DIAMETER_MM) / 2
        centre = np.asarray(finding.centre_lps_mm)
        return [_box(finding, centre - radius, centre + radius)]
    grid = geometry.sub(finding.start_ijk, finding.mask.shape[::-1])
    ends = finding.long_axis_lps_mm or ()
    points = _labelled([_point(end) for end in ends], finding)
    line = [Markup(LINE, f"{finding.id} long axis", points)] if points else []
    corners = _mask_corners(finding.mask, grid)
    return [*line, _box(finding, corners.min(axis=0), corners.max(axis=0))]


def _mask_corners(mask: NDArray[np.uint8], grid: Geometry) -> NDArray[np.float64]:
    """(8, 3) corners of the voxels that a mask fills, LPS mm."""
    filled = np.argwhere(mask)[:, ::-1]
    ends = np.stack([filled.min(axis=0) - 0.5, filled.max(axis=0) + 0.5])
    choice = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    return grid.ijk_to_lps(ends[choice, [0, 1, 2]])


def _labelled(places_lps_mm: Sequence[Point], finding: Finding) -> tuple[ControlPoint, ...]:
    """Control points of which the first says what the nodule is.

    3D Slicer's plugin gives lines and boxes names of its own, and keeps these words.
    """
    words = point_label(finding), description(finding)
    return tuple(
        ControlPoint(place, *(words if n == 0 else ("", "")))
        for n, place in enumerate(places_lps_mm)
    )


def _box(finding: Finding, low: NDArray[np.float64], high: NDArray[np.float64]) -> Markup:
    centre = _point((low + high) / 2)
    size = tuple(float(mm) for mm in high - low)
    points = _labelled([centre], finding)
    return Markup(BOX, f"{finding.id} extent", points, centre, box_size_mm=size)


def _point(lps_mm: NDArray[np.float64] | Sequence[float]) -> Point:
    x, y, z = (float(mm) for mm in lps_mm)
    return x, y, z
