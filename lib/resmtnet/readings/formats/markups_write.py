"""Findings as 3D Slicer Markups: a point, the long axis and a box for each nodule.

Schema: https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.findings import Finding
from resmtnet.types import Json

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)

_COLOURS = {
    "benign": (0.36, 0.75, 0.36),
    "malignant": (0.86, 0.25, 0.25),
    "indeterminate": (0.95, 0.70, 0.20),
}
_MIXED_COLOUR = (0.30, 0.60, 0.95)
_UNKNOWN_DIAMETER_MM = 10.0
_IDENTITY_IN_RAS = [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0]

Position = Sequence[float] | NDArray[np.float64]


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
    points = [
        _control_point(f.centroid_lps_mm or f.centre_lps_mm, point_label(f), description(f))
        for f in findings
    ]
    nodes = [_node("Fiducial", "Res-MTNet nodules", points, _MIXED_COLOUR)]
    nodes += chain.from_iterable(_extent(finding, geometry) for finding in findings)
    return {"@schema": SCHEMA, "markups": nodes}


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
    """What is kept when the reader renames the point: "score=4.1; diameter_mm=12.4"."""
    size = finding.size
    diameter = size.mean_diameter_mm or size.equivalent_diameter_mm
    known = [] if diameter is None else [f"diameter_mm={diameter:.1f}"]
    return "; ".join([f"score={finding.malignancy.score:.1f}", *known])


def _extent(finding: Finding, geometry: Geometry) -> list[Json]:
    """The long axis and the box of one nodule; without a mask a cube of its diameter."""
    colour = _COLOURS[finding.class_name]
    if finding.mask is None or finding.start_ijk is None or not finding.mask.any():
        radius = (finding.size.equivalent_diameter_mm or _UNKNOWN_DIAMETER_MM) / 2
        centre = np.asarray(finding.centre_lps_mm)
        return [_box(finding, centre - radius, centre + radius, colour)]
    grid = geometry.sub(finding.start_ijk, finding.mask.shape[::-1])
    ends = finding.long_axis_lps_mm or ()
    line = _node("Line", f"{finding.id} long axis", [_control_point(end) for end in ends], colour)
    corners = _mask_corners(finding.mask, grid)
    return [line, _box(finding, corners.min(axis=0), corners.max(axis=0), colour)]


def _mask_corners(mask: NDArray[np.uint8], grid: Geometry) -> NDArray[np.float64]:
    """(8, 3) corners of the voxels that a mask fills, LPS mm."""
    filled = np.argwhere(mask)[:, ::-1]
    ends = np.stack([filled.min(axis=0) - 0.5, filled.max(axis=0) + 0.5])
    choice = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    return grid.ijk_to_lps(ends[choice, [0, 1, 2]])


def _box(finding: Finding, low: Position, high: Position, colour: Position) -> Json:
    centre = (np.asarray(low) + high) / 2
    node = _node("ROI", f"{finding.id} extent", [_control_point(centre)], colour)
    return node | {
        "roiType": "Box",
        "center": [round(float(x), 4) for x in centre],
        "orientation": _IDENTITY_IN_RAS,
        "size": [round(float(x), 4) for x in np.asarray(high) - low],
        "insideOut": False,
    }


def _control_point(lps_mm: Position, label: str = "", text: str = "") -> Json:
    return {
        "label": label,
        "description": text,
        "associatedNodeID": "",
        "position": [round(float(x), 4) for x in lps_mm],
        "orientation": _IDENTITY_IN_RAS,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }


def _node(kind: str, name: str, points: list[Json], colour: Position) -> Json:
    return {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": [{"id": str(n + 1)} | point for n, point in enumerate(points)],
        "measurements": [],
        "display": {
            "visibility": True,
            "opacity": 1.0,
            "color": list(colour),
            "selectedColor": list(colour),
            "fillOpacity": 0.1,
        },
    }
