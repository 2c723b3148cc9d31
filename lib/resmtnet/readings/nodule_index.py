"""The nodules of one image in the readings database, and the one that a new reading is of.

Where a reading names no nodule, the rule of matching.py decides. A nodule of the database is as
large as its readers say: the median of the readings that stand.
"""

from __future__ import annotations

import math
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from heapq import heapify, heappop, heapreplace
from statistics import median_low

from resmtnet.errors import ReadingError
from resmtnet.readings.matching import (
    FARTHEST_MM,
    SAME_NODULE_MM,
    distance_in_reach_mm,
    radius_mm,
    reach_mm,
)
from resmtnet.readings.record import Reading
from resmtnet.readings.serialise import from_text
from resmtnet.readings.supersede import by_reader, effective
from resmtnet.types import Point


class NoduleIndex:
    """The nodules of one image during a transaction, with those that the transaction adds."""

    def __init__(self, connection: sqlite3.Connection, image: str) -> None:
        """Read where the nodules lie.

        Args:
            connection: of a transaction that may write.
            image: id of the image.
        """
        self._connection, self._image = connection, image
        query = "SELECT id, x_lps_mm, y_lps_mm, z_lps_mm FROM nodules WHERE image = ?"
        rows = connection.execute(query, (image,))
        self._centres: dict[str, Point] = {name: (x, y, z) for name, x, y, z in rows}
        query = "SELECT nodule, max(radius_mm) FROM readings WHERE image = ? GROUP BY nodule"
        self._largest_mm: dict[str, float] = dict(connection.execute(query, (image,)))
        self._radii_mm: dict[str, float] = {}
        self._taken: set[tuple[str, str, str]] = set()

    def distance_mm(self, reading: Reading) -> float:
        """Return how far a reading lies from the nodule that it would be matched with.

        Returns:
            Infinity where it would be of a new nodule; below 0 where it names its nodule.
        """
        if reading.nodule is not None:
            return -1.0
        return min(self._near(reading), default=(math.inf, ""))[0]

    def place(self, reading: Reading, *, new_nodule: bool) -> Reading:
        """Return a reading with its nodule and centre; a new nodule is added.

        A nodule that was given to a reading here is not given to another one of the same reader
        and evidence, unless that one names it.

        Args:
            reading: with a nodule, or a centre, or both.
            new_nodule: a reading that names no nodule is of a new one, however near others are.

        Raises:
            ReadingError: its nodule is not one of its image, or lies elsewhere.
        """
        if reading.nodule is not None:
            placed = self._at_named(reading, reading.nodule)
        else:
            near = [] if new_nodule else self._near(reading)
            placed = replace(reading, nodule=min(near)[1] if near else self._added(reading))
        name = str(placed.nodule)
        self._taken.add((name, reading.reader, reading.evidence))
        self._largest_mm[name] = max(self._largest_mm.get(name, 0.0), radius_mm(reading.sizes))
        self._radii_mm.pop(name, None)
        return placed

    def _at_named(self, reading: Reading, name: str) -> Reading:
        if name not in self._centres:
            raise ReadingError(
                "nodule",
                f"is {name!r}; image {self._image!r} has "
                f"{', '.join(sorted(self._centres)) or 'none yet'}: leave it out for a new one",
            )
        centre = reading.centre_lps_mm or self._centres[name]
        there, radius = self._centres[name], self._radius_mm(name)
        if distance_in_reach_mm(centre, [there], radius) is None:
            raise ReadingError(
                "centre_lps_mm",
                f"is {math.dist(centre, there):.1f} mm from nodule {name!r}, which reaches "
                f"{reach_mm(radius):.1f} mm: leave the centre out, or leave the nodule out for a "
                "new one",
            )
        return replace(reading, centre_lps_mm=centre)

    def _near(self, reading: Reading) -> list[tuple[float, str]]:
        """Distance (mm) and name of the nodules that a reading may be of."""
        centre, who = reading.centre_lps_mm, (reading.reader, reading.evidence)
        if centre is None:
            return []
        near = []
        for name, there in self._centres.items():
            # How large a nodule is takes a query: only asked where it can matter.
            if math.dist(there, centre) > FARTHEST_MM or (name, *who) in self._taken:
                continue
            distance = distance_in_reach_mm(centre, [there], self._radius_mm(name))
            if distance is not None:
                near.append((distance, name))
        return near

    def _radius_mm(self, name: str) -> float:
        """The radius of a nodule as its readers say: the median of what stands, 0 without one."""
        if self._largest_mm.get(name, 0.0) <= SAME_NODULE_MM:
            return 0.0  # no reading can widen its reach
        if name not in self._radii_mm:
            query = "SELECT document FROM readings WHERE nodule = ? ORDER BY sequence"
            rows = self._connection.execute(query, (name,))
            readings = [from_text(document) for (document,) in rows]
            standing = [effective(chain) for chain in by_reader(readings)]
            radii = [radius_mm(reading.sizes) for reading in standing if not reading.excluded]
            self._radii_mm[name] = median_low([mm for mm in radii if mm] or [0.0])
        return self._radii_mm[name]

    def _added(self, reading: Reading) -> str:
        if reading.centre_lps_mm is None:
            raise ReadingError("centre_lps_mm", "is missing; give it, or the id of a known nodule")
        name = uuid.uuid4().hex[:12]
        x, y, z = self._centres[name] = reading.centre_lps_mm
        self._connection.execute(
            "INSERT INTO nodules (id, image, x_lps_mm, y_lps_mm, z_lps_mm) VALUES (?, ?, ?, ?, ?)",
            (name, self._image, x, y, z),
        )
        return name


def nearest_first(
    readings: Mapping[int, Reading], images: Mapping[str, NoduleIndex]
) -> Iterator[int]:
    """Yield the numbers of readings in the order in which they are to be placed.

    Those that name a nodule come first, then what lies nearest to one that is still free for it:
    of two parts of a nodule the one that lies nearer to its centre is of it.

    Args:
        readings: of one submission, by number; each is placed before the next one is asked for.
        images: the nodules of each image.
    """

    def distance_mm(n: int) -> float:
        return images[readings[n].image].distance_mm(readings[n])

    waiting = [(distance_mm(n), n) for n in readings]
    heapify(waiting)
    while waiting:
        before_mm, n = waiting[0]
        now_mm = distance_mm(n)
        if now_mm > before_mm:  # its nodule was taken
            heapreplace(waiting, (now_mm, n))
        else:
            heappop(waiting)
            yield n
