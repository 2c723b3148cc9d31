"""Slicer Markups JSON, both ways: points, lines and boxes in LPS mm.

What is written is what is read: the names of the schema are here and nowhere else.
https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import ReadingError
from resmtnet.readings.formats.draft import Problem
from resmtnet.types import Json, Point

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
POINTS, LINE, BOX = "Fiducial", "Line", "ROI"
"""`type` of the markups that are read and written."""
MOST_POINTS = 1000
"""Control points of a document, all markups together; each is looked for among all nodules."""

_TO_LPS = {
    "LPS": np.array([1.0, 1.0, 1.0]),
    "1": np.array([1.0, 1.0, 1.0]),
    "RAS": np.array([-1.0, -1.0, 1.0]),
    "0": np.array([-1.0, -1.0, 1.0]),
}
"""Signs by coordinateSystem; older files have vtkMRMLStorageNode's numbers."""
_RAS_AXES = np.diag(_TO_LPS["RAS"])
"""Columns: the axes of RAS in LPS, the orientation that Slicer gives by itself."""
_PLACED = "defined"
_MOST_MM = 1e9
"""No coordinate of a patient is larger."""
_ORTHONORMAL = 1e-3
_DIGITS = 4


@dataclass(frozen=True)
class ControlPoint:
    """A point that was placed."""

    lps_mm: Point
    label: str = ""
    description: str = ""

    def to_json(self, number: int) -> Json:
        """The point as Slicer writes it; `number` counts from 1."""
        return {
            "id": str(number),
            "label": self.label,
            "description": self.description,
            "associatedNodeID": "",
            "position": _rounded(self.lps_mm),
            "orientation": _RAS_AXES.ravel().tolist(),
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": _PLACED,
        }


@dataclass(frozen=True, eq=False)
class Markup:
    """One markup: a list of points, a line or a box."""

    kind: str
    """POINTS, LINE or BOX."""
    name: str
    points: tuple[ControlPoint, ...]
    box_centre_lps_mm: Point | None = None
    box_axes: NDArray[np.float64] = field(default_factory=lambda: _RAS_AXES)
    """Columns: LPS unit vectors of the box's axes."""
    box_size_mm: tuple[float, ...] = ()

    @property
    def length_mm(self) -> float:
        """Between the first and the last point."""
        ends = np.subtract(self.points[0].lps_mm, self.points[-1].lps_mm)
        return float(np.linalg.norm(ends))

    @property
    def middle_lps_mm(self) -> Point:
        """Of a line or a box; of points their mean."""
        if self.box_centre_lps_mm is not None:
            return self.box_centre_lps_mm
        x, y, z = np.mean([point.lps_mm for point in self.points], axis=0)
        return float(x), float(y), float(z)

    @property
    def in_plane_mm(self) -> tuple[float, float]:
        """The two sides of a box that lie in an axial plane, the longer first."""
        upright = int(np.abs(self.box_axes[2]).argmax())
        sides = [side for axis, side in enumerate(self.box_size_mm) if axis != upright]
        return max(sides), min(sides)

    def to_json(self, colour: Sequence[float]) -> Json:
        """The markup as Slicer reads it.

        Args:
            colour: red, green and blue, 0..1.
        """
        document: Json = {
            "type": self.kind,
            "name": self.name,
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "locked": False,
            "fixedNumberOfControlPoints": False,
            "labelFormat": "%N-%d",
            "lastUsedControlPointNumber": len(self.points),
            "controlPoints": [point.to_json(n) for n, point in enumerate(self.points, start=1)],
            "measurements": [],
            "display": {
                "visibility": True,
                "opacity": 1.0,
                "color": list(colour),
                "selectedColor": list(colour),
                "fillOpacity": 0.1,
            },
        }
        if self.kind == BOX:
            document |= {
                "roiType": "Box",
                "center": _rounded(self.middle_lps_mm),
                "orientation": self.box_axes.ravel().tolist(),
                "size": _rounded(self.box_size_mm),
                "insideOut": False,
            }
        return document


def markups_document(markups: Iterable[Json]) -> Json:
    """Return the document that holds markups."""
    return {"@schema": SCHEMA, "markups": list(markups)}


def parse_markups(document: Mapping[str, Any]) -> tuple[list[Markup], list[Problem]]:
    """Read a document.

    Args:
        document: with the list "markups".

    Returns:
        What can be read, and what is wrong with the rest.

    Raises:
        ReadingError: it is no Markups document.
    """
    listed = document.get("markups")
    if not isinstance(listed, list) or len(listed) > MOST_POINTS:
        raise ReadingError(
            "markups", f"is missing, or is not a list of at most {MOST_POINTS} markups"
        )
    placed = sum(map(_n_points, listed))
    if placed > MOST_POINTS:
        raise ReadingError(
            "controlPoints", f"are {placed} in all; at most {MOST_POINTS} are read: send fewer"
        )
    markups, problems = [], []
    for n, entry in enumerate(listed, start=1):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        what = f"markup {n}" + (f" ({name})" if name else "")
        if _is_empty_box(entry):
            continue
        try:
            markups.append(_markup(entry))
        except ReadingError as error:
            problems.append(Problem(what, str(error)))
    return markups, problems


def _is_empty_box(entry: object) -> bool:
    """Whether an entry is a box that was never placed, such as the plugin's "SAM2 ROI"."""
    if not isinstance(entry, Mapping) or entry.get("type") != BOX or entry.get("controlPoints"):
        return False
    size = entry.get("size")
    return isinstance(size, list) and not any(size)


def _n_points(entry: object) -> int:
    placed = entry.get("controlPoints") if isinstance(entry, Mapping) else None
    return len(placed) if isinstance(placed, list) else 0


def _markup(entry: object) -> Markup:
    if not isinstance(entry, Mapping):
        raise ReadingError("markups", f"has {entry!r}; an object is needed")
    kind = entry.get("type")
    if kind not in (POINTS, LINE, BOX):
        raise ReadingError("type", f"is {kind!r}; points, lines and ROIs are read")
    signs = _TO_LPS.get(str(entry.get("coordinateSystem", "LPS")).upper())
    if signs is None:
        raise ReadingError(
            "coordinateSystem", f"is {entry['coordinateSystem']!r}; allowed are LPS and RAS"
        )
    if entry.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
        raise ReadingError("coordinateUnits", f"is {entry['coordinateUnits']!r}; mm is needed")
    placed = entry.get("controlPoints") or []
    if not isinstance(placed, list):
        raise ReadingError("controlPoints", "is not a list of points")
    points = tuple(p for p in (_control_point(point, signs) for point in placed) if p is not None)
    name = str(entry.get("name", ""))
    if kind == BOX:
        return _box(entry, name, points, signs)
    if kind == LINE and (len(points) != 2 or points[0].lps_mm == points[1].lps_mm):
        raise ReadingError("controlPoints", f"has {len(points)} points; a line has two ends")
    return Markup(kind, name, points)


def _box(
    entry: Mapping[str, Any], name: str, points: tuple[ControlPoint, ...], signs: NDArray[Any]
) -> Markup:
    centre = entry.get("center")
    middle = points[0].lps_mm if centre is None and points else _place("center", centre, signs)
    size = _numbers("size", entry.get("size"), 3)
    if min(size) <= 0:
        raise ReadingError("size", f"is {size}; three sides above 0 mm")
    # The orientation is that of the axes in the file's own frame, row by row.
    given = entry.get("orientation")
    axes = np.eye(3) if given is None else np.reshape(_numbers("orientation", given, 9), (3, 3))
    if np.abs(axes @ axes.T - np.eye(3)).max() > _ORTHONORMAL:
        raise ReadingError("orientation", f"is {given!r}; three orthogonal unit vectors are needed")
    return Markup(BOX, name, points, middle, axes * signs[:, None], tuple(size))


def _control_point(point: object, signs: NDArray[Any]) -> ControlPoint | None:
    """A point; None for one that is not placed yet."""
    if not isinstance(point, Mapping):
        raise ReadingError("controlPoints", f"has {point!r}; an object is needed")
    if point.get("positionStatus", _PLACED) != _PLACED:
        return None
    return ControlPoint(
        _place("position", point.get("position"), signs),
        str(point.get("label") or ""),
        str(point.get("description") or ""),
    )


def _place(name: str, value: object, signs: NDArray[Any]) -> Point:
    x, y, z = np.multiply(_numbers(name, value, 3), signs)
    return float(x), float(y), float(z)


def _numbers(name: str, value: object, count: int) -> list[float]:
    listed: Sequence[Any] = value if isinstance(value, (list, tuple)) else ()
    kept = [x for x in listed if isinstance(x, (int, float)) and not isinstance(x, bool)]
    # Python's whole numbers have no limit, and one beyond the range of float is no coordinate.
    numbers = [float(x) if abs(x) < _MOST_MM else math.inf for x in kept]
    if len(listed) != count or len(numbers) != count or not np.isfinite(numbers).all():
        raise ReadingError(name, f"is {value!r}; {count} finite numbers are needed")
    return numbers


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [round(float(number), _DIGITS) for number in numbers]
