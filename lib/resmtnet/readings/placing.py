"""Which nodule a reading is of: the nearest one of its image, or a new one."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import Connection, func, insert, select

from resmtnet.errors import ReadingError
from resmtnet.findings import Point
from resmtnet.reading import Reading
from resmtnet.readings.migrations import NODULES, READINGS

SAME_NODULE_MM = 6.0
"""A point within this distance of a nodule's centre, or within its radius as read, is of it."""
_DIAMETERS = ("long_axis_mm", "mean_diameter_mm", "equivalent_diameter_mm")


def place(
    connection: Connection, reading: Reading, *, new_nodule: bool, others: Collection[str]
) -> Reading:
    """Return a reading with its nodule and centre, adding the nodule where it is a new one.

    Args:
        connection: of a transaction that may write.
        reading: with a nodule, or a centre, or both.
        new_nodule: without a nodule it is of one of its own, however near another one is.
        others: nodules that it is not of, unless it names one.

    Raises:
        ReadingError: its nodule is not one of its image.
    """
    centres = _centres(connection, reading.image)
    if reading.nodule is not None:
        if reading.nodule not in centres:
            raise ReadingError(
                "nodule",
                f"is {reading.nodule!r}; image {reading.image!r} has "
                f"{', '.join(sorted(centres)) or 'none yet'}: leave it out for a new one",
            )
        return replace(reading, centre_lps_mm=reading.centre_lps_mm or centres[reading.nodule])
    centre = reading.centre_lps_mm
    if centre is None:
        raise ReadingError("centre_lps_mm", "is missing; give it, or the id of a known nodule")
    if not new_nodule:
        reach = _reach_mm(connection, reading.image)
        distances = {name: math.dist(there, centre) for name, there in centres.items()}
        near = [n for n, mm in distances.items() if mm <= reach[n] and n not in others]
        if near:
            return replace(reading, nodule=min(near, key=lambda name: distances[name]))
    return replace(reading, nodule=_add_nodule(connection, reading.image, centre))


def _centres(connection: Connection, image: str) -> dict[str, Point]:
    rows = connection.execute(select(NODULES).where(NODULES.c.image == image))
    return {row.id: (row.x_lps_mm, row.y_lps_mm, row.z_lps_mm) for row in rows}


def _reach_mm(connection: Connection, image: str) -> dict[str, float]:
    """Return how far from each nodule's centre a point is still of it."""
    query = (
        select(READINGS.c.nodule, func.max(READINGS.c.radius_mm))
        .where(READINGS.c.image == image)
        .group_by(READINGS.c.nodule)
    )
    return {
        nodule: max(SAME_NODULE_MM, largest_mm)
        for nodule, largest_mm in connection.execute(query).all()
    }


def radius_mm(reading: Reading) -> float:
    """Return half of the greatest diameter that was read, 0 without one.

    >>> radius_mm(Reading("ct", "ann", (0, 0, 0), sizes={"long_axis_mm": 12, "volume_mm3": 700}))
    6.0
    """
    return max(reading.sizes.get(name, 0.0) / 2 for name in _DIAMETERS)


def _add_nodule(connection: Connection, image: str, centre_lps_mm: Point) -> str:
    name = uuid.uuid4().hex[:12]
    x, y, z = centre_lps_mm
    row = {"id": name, "image": image, "x_lps_mm": x, "y_lps_mm": y, "z_lps_mm": z}
    connection.execute(insert(NODULES).values(row))
    return name
