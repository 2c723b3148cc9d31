"""Points that people and programs give: three finite numbers, inside the CT."""

from __future__ import annotations

import reprlib

import numpy as np
from numpy.typing import ArrayLike

from resmtnet.ct.geometry import Geometry
from resmtnet.errors import PointError
from resmtnet.types import Point


def as_point(value: ArrayLike, what: str = "point") -> Point:
    """Return a point (x, y, z), LPS mm.

    Args:
        value: three numbers.
        what: how the message calls it.

    Raises:
        PointError: these are not three finite numbers.

    >>> as_point([1, 2.5, -3])
    (1.0, 2.5, -3.0)
    """
    try:
        point = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):  # also a whole number beyond float
        point = np.full(3, np.nan)
    if point.shape != (3,) or not np.isfinite(point).all():
        shown = reprlib.repr(value)
        raise PointError(f"{what} {shown}: three finite numbers x, y, z (LPS mm) are needed")
    x, y, z = (float(number) for number in point)
    return x, y, z


def point_inside(value: ArrayLike, geometry: Geometry) -> Point:
    """Return a point (x, y, z), LPS mm, that lies in a voxel of a grid.

    Raises:
        PointError: these are not three finite numbers, or the point lies outside.
    """
    point = as_point(value)
    if not geometry.contains(point):
        corners = geometry.ijk_to_lps([(0, 0, 0), [n - 1 for n in geometry.size_ijk]])
        low, high = corners.min(0).round(1).tolist(), corners.max(0).round(1).tolist()
        raise PointError(
            f"point {[round(mm, 1) for mm in point]} (LPS mm) is outside the CT, which spans "
            f"{low} to {high}; coordinates in RAS have x and y of the other sign"
        )
    return point
