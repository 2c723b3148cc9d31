"""The readings of a site: append-only, durable when acknowledged, shared by several processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, func, insert, select

from resmtnet.errors import ReadingError, StoreError
from resmtnet.reading import MaskReference, Reading
from resmtnet.readings import mask_files
from resmtnet.readings.backup import back_up
from resmtnet.readings.database import RESTORE, Database, masks_folder, told
from resmtnet.readings.migrations import READINGS
from resmtnet.readings.placing import place, radius_mm


@dataclass(frozen=True)
class Kept:
    """A reading as it lies in the store."""

    reading: Reading
    sequence: int
    """Order of arrival."""
    arrived_at: str
    """UTC, ISO 8601."""
    superseded: bool
    """Whether the same reader said something later of this nodule, on the same evidence."""


class ReadingStore:
    """The readings database of a folder of studies; see `open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.path = database.path
        self.masks = masks_folder(database.path)
        """Folder of the masks; MaskReference.file is relative to it."""

    @classmethod
    def open(cls, path: Path) -> ReadingStore:
        """Open a database, making it and its folder where there is none.

        Raises:
            StoreError: it is damaged, of a newer version, or cannot be written; it is left
                as it is.
        """
        return cls(Database(Path(path).absolute()))

    def add(self, reading: Reading, *, new_nodule: bool = False) -> Reading:
        """Keep a reading; it is on the disk when this returns.

        A reading without `nodule` is of the nearest nodule of its image (see placing.py), or of a
        new one where none is near. Adding an id
        again changes nothing and returns what was kept.

        Args:
            reading: to keep.
            new_nodule: it is of a nodule of its own, however near another one is.

        Returns:
            The reading as kept, with its nodule and centre.

        Raises:
            ReadingError: `nodule` is not of this image, the mask was not kept with keep_mask, or
                another reading has this id.
            StoreError: it could not be written, and was not.
        """
        return self.add_all([reading], new_nodule=new_nodule)[0]

    def add_all(self, readings: Sequence[Reading], *, new_nodule: bool = False) -> list[Reading]:
        """Keep readings together: all of them, or none; see `add`.

        Those of one reader on one evidence are of different nodules, however near.
        """
        for reading in readings:
            _document(reading)
            if reading.mask is not None:
                mask_files.check(self.masks, reading.mask)
        with self._database.writing() as connection:
            taken: set[tuple[str, str, str]] = set()
            kept = []
            for reading in readings:
                kept.append(_add(connection, reading, taken, new_nodule))
        return kept

    def readings(
        self, image: str | None = None, nodule: str | None = None, *, every: bool = False
    ) -> list[Reading]:
        """Return readings in order of arrival.

        Args:
            image: only of this image.
            nodule: only of this nodule.
            every: also those that a later one of the same reader, nodule and evidence supersedes.
        """
        return [kept.reading for kept in self.kept(image, nodule, every=every)]

    def kept(
        self, image: str | None = None, nodule: str | None = None, *, every: bool = False
    ) -> list[Kept]:
        """Return readings as `readings` does, with when they arrived and whether they stand."""
        last = func.max(READINGS.c.sequence).over(
            partition_by=(READINGS.c.nodule, READINGS.c.reader, READINGS.c.evidence)
        )
        query = select(
            READINGS.c.document,
            READINGS.c.sequence,
            READINGS.c.arrived_at,
            (last > READINGS.c.sequence).label("superseded"),
        ).order_by(READINGS.c.sequence)
        if image is not None:
            query = query.where(READINGS.c.image == image)
        if nodule is not None:
            query = query.where(READINGS.c.nodule == nodule)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Kept(_parsed(row.document), row.sequence, row.arrived_at, bool(row.superseded))
            for row in rows
            if every or not row.superseded
        ]

    def images(self) -> set[str]:
        """Return the images that have a reading."""
        with self._database.reading() as connection:
            return set(connection.execute(select(READINGS.c.image).distinct()).scalars())

    def count(self) -> int:
        """Return how many readings are kept, superseded ones included."""
        with self._database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(READINGS)).scalar_one())

    def revision(self) -> int:
        """Return a number that grows with each reading."""
        with self._database.reading() as connection:
            return connection.execute(select(func.max(READINGS.c.sequence))).scalar() or 0

    def keep_mask(self, file: Path) -> MaskReference:
        """Copy a mask into the store durably, under its SHA-256.

        Raises:
            StoreError: it could not be copied.
        """
        with told(self.path):
            return mask_files.keep(self.masks, Path(file))

    def backup(self, path: Path) -> int:
        """Write a copy of the database and its masks, while others go on writing.

        The copy appears, or replaces an older one, when it is complete; it can be opened and
        restored like the database itself.

        Returns:
            Number of readings in the copy.

        Raises:
            StoreError: the place holds something else, is in use, or cannot be written.
        """
        return back_up(self._database, Path(path).absolute())

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._database.close()

    def __enter__(self) -> ReadingStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _add(
    connection: Connection, reading: Reading, taken: set[tuple[str, str, str]], new_nodule: bool
) -> Reading:
    """Add one reading in a transaction that is under way.

    Args:
        connection: of that transaction.
        reading: to add.
        taken: (nodule, reader, evidence) added in this transaction; this reading joins it.
        new_nodule: see ReadingStore.add.
    """
    known = select(READINGS.c.document).where(READINGS.c.id == reading.id)
    document = connection.execute(known).scalar()
    if document is not None:
        return _same(_parsed(document), reading)
    who = (reading.reader, reading.evidence)
    others = {nodule for nodule, *whose in taken if tuple(whose) == who}
    reading = place(connection, reading, new_nodule=new_nodule, others=others)
    nodule = str(reading.nodule)
    taken.add((nodule, *who))
    document = _document(reading)
    row = {
        "id": reading.id,
        "image": reading.image,
        "nodule": nodule,
        "reader": reading.reader,
        "evidence": reading.evidence,
        "radius_mm": radius_mm(reading),
        "arrived_at": datetime.now(timezone.utc).isoformat(),
        "document": document,
    }
    connection.execute(insert(READINGS).values(row))
    return _parsed(document)


def _same(known: Reading, again: Reading) -> Reading:
    """Return the reading that is kept, if one that comes again under its id says the same."""
    said = replace(
        again,
        made_at=known.made_at,
        nodule=again.nodule or known.nodule,
        centre_lps_mm=again.centre_lps_mm or known.centre_lps_mm,
    )
    if said.to_json() != known.to_json():
        raise ReadingError("id", f"{again.id!r} is that of another reading; leave it out")
    return known


def _document(reading: Reading) -> str:
    """Return the JSON of a reading.

    Raises:
        ReadingError: a field holds what JSON or a file cannot: NaN, half a character.
    """
    for name, value in reading.to_json().items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ReadingError(name, f"cannot be written as JSON ({error})") from error
    return json.dumps(reading.to_json(), ensure_ascii=False)


def _parsed(document: str) -> Reading:
    try:
        return Reading.from_json(json.loads(document))
    except (ReadingError, TypeError, ValueError) as error:
        raise StoreError(
            f"a reading in the database cannot be read ({error}): {RESTORE}"
        ) from error
