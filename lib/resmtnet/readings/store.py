"""The readings of a site: append-only, durable when acknowledged, shared by several processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from resmtnet.errors import ReadingError
from resmtnet.readings import mask_files
from resmtnet.readings.backup import back_up
from resmtnet.readings.database import Database, masks_folder, store_errors
from resmtnet.readings.matching import radius_mm
from resmtnet.readings.nodule_index import NoduleIndex, nearest_first
from resmtnet.readings.purge import Purged, problems, purge
from resmtnet.readings.record import MaskReference, Reading
from resmtnet.readings.serialise import from_text, to_text
from resmtnet.readings.supersede import by_reader, effective


@dataclass(frozen=True)
class StoredReading:
    """A reading with what the store knows of it."""

    reading: Reading
    sequence: int
    """Order of arrival."""
    arrived_at: str
    """UTC, ISO 8601."""
    superseded: bool
    """Whether the same reader sent something later of this nodule, on the same evidence."""


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

        A reading without `nodule` is of the nearest nodule of its image (see matching.py), or of a
        new one where none is near. Adding an id again changes nothing and returns what was kept.

        Args:
            reading: to keep.
            new_nodule: the reading is of a new nodule, however near others are.

        Returns:
            The reading as kept, with its nodule and centre.

        Raises:
            ReadingError: `nodule` is not of this image or lies elsewhere, the mask was not kept
                with keep_mask, or another reading has this id.
            StoreError: it could not be written, and was not.
        """
        (added,) = self.add_all([reading], new_nodule=new_nodule)
        if isinstance(added, ReadingError):
            raise added
        return added

    def add_all(
        self, readings: Sequence[Reading], *, new_nodule: bool = False
    ) -> list[Reading | ReadingError]:
        """Keep readings together, in one step; see `add`.

        Readings of one reader on one evidence are of different nodules, however near they lie; of
        several near one nodule, the nearest is of it. If one is wrong, the others are kept.

        Returns:
            For each the reading as kept, or why it was not.

        Raises:
            StoreError: they could not be written; none was.
        """
        added: dict[int, Reading | ReadingError] = {}
        for n, reading in enumerate(readings):
            try:
                self._check(reading)
            except ReadingError as error:
                added[n] = error
        sound = {n: reading for n, reading in enumerate(readings) if n not in added}
        with self._database.writing() as connection:
            images = {
                name: NoduleIndex(connection, name) for name in {r.image for r in sound.values()}
            }
            for n in nearest_first(sound, images):
                added[n] = _add(connection, sound[n], images[sound[n].image], new_nodule)
        return [added[n] for n in range(len(readings))]

    def _check(self, reading: Reading) -> None:
        """Refuse what cannot be kept, whatever else is in the database."""
        to_text(reading)
        if reading.mask is not None:
            mask_files.check(self.masks, reading.mask)

    def get(self, reading_id: str) -> Reading | None:
        """Return the reading of this id as it was sent, or None where there is none."""
        with self._database.reading() as connection:
            return _kept_as(connection, reading_id)

    def readings(
        self, image: str | None = None, nodule: str | None = None, *, every: bool = False
    ) -> list[Reading]:
        """Return what each reader says of each nodule on each evidence, in order of arrival.

        A later reading corrects an earlier one; what it leaves out is taken from the earlier one,
        see supersede.merge. Id, time and source are those of the last one.

        Args:
            image: only of this image.
            nodule: only of this nodule.
            every: every single reading instead, as it was sent.
        """
        return [kept.reading for kept in self.kept(image, nodule, every=every)]

    def kept(
        self, image: str | None = None, nodule: str | None = None, *, every: bool = False
    ) -> list[StoredReading]:
        """Return readings as `readings` does, with when they arrived and what is superseded."""
        wanted = {"image": image, "nodule": nodule}
        given = {name: value for name, value in wanted.items() if value is not None}
        condition = " AND ".join(f"{name} = :{name}" for name in given) or "TRUE"
        query = (
            "SELECT document, sequence, arrived_at FROM readings "
            f"WHERE {condition} ORDER BY sequence"
        )
        with self._database.reading() as connection:
            rows = connection.execute(query, given).fetchall()
        readings = [from_text(document) for document, _, _ in rows]
        standing = {chain[-1].id: effective(chain) for chain in by_reader(readings)}
        return [
            StoredReading(
                reading if every else standing[reading.id],
                sequence,
                arrived_at,
                superseded=reading.id not in standing,
            )
            for reading, (_, sequence, arrived_at) in zip(readings, rows, strict=True)
            if every or reading.id in standing
        ]

    def images(self) -> set[str]:
        """Return the images that have a reading."""
        with self._database.reading() as connection:
            return {image for (image,) in connection.execute("SELECT DISTINCT image FROM readings")}

    def images_since(self, revision: int) -> set[str]:
        """Return the images of which readings have arrived since a `revision`."""
        query = "SELECT DISTINCT image FROM readings WHERE sequence > ?"
        with self._database.reading() as connection:
            return {image for (image,) in connection.execute(query, (revision,))}

    def count(self) -> int:
        """Return how many readings are kept, superseded ones included."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM readings").fetchone()[0])

    def revision(self) -> int:
        """Return a number that grows with each reading."""
        with self._database.reading() as connection:
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'readings'"
            return int((connection.execute(query).fetchone() or (0,))[0])

    def keep_mask(self, file: Path) -> MaskReference:
        """Copy a mask into the store durably, under its SHA-256.

        Raises:
            StoreError: it could not be copied.
        """
        with store_errors(self.path):
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

    def purge(self, names: Set[str], images: Set[str], *, dry_run: bool = False) -> Purged:
        """Delete the readings of a patient; see purge.purge.

        Raises:
            StoreError: nothing was deleted.
        """
        return purge(self._database, names, images, dry_run)

    def problems(self) -> list[str]:
        """Return what is missing in the order of arrival; see purge.problems."""
        with self._database.reading() as connection:
            return problems(connection)

    def check_in_place(self) -> None:
        """Refuse to go on where the database has disappeared or was replaced.

        Raises:
            StoreError: with what to do.
        """
        self._database.check_in_place()

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
    connection: sqlite3.Connection, reading: Reading, nodules: NoduleIndex, new_nodule: bool
) -> Reading | ReadingError:
    """Add one reading in a transaction that is under way, or tell why it is not added.

    Args:
        connection: of that transaction.
        reading: to add.
        nodules: of its image, in that transaction.
        new_nodule: see ReadingStore.add.
    """
    known = _kept_as(connection, reading.id)
    try:
        if known is not None:
            return _same(known, reading)
        reading = nodules.place(reading, new_nodule=new_nodule)
    except ReadingError as error:
        return error
    document = to_text(reading)
    row = {
        "id": reading.id,
        "image": reading.image,
        "nodule": reading.nodule,
        "reader": reading.reader,
        "evidence": reading.evidence,
        "radius_mm": radius_mm(reading.sizes),
        "arrived_at": datetime.now(timezone.utc).isoformat(),
        "document": document,
    }
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO readings ({names}) VALUES ({values})", row)
    return from_text(document)


def _kept_as(connection: sqlite3.Connection, reading_id: str) -> Reading | None:
    """The reading that is kept under an id."""
    query = "SELECT document FROM readings WHERE id = ?"
    row = connection.execute(query, (reading_id,)).fetchone()
    return None if row is None else from_text(row[0])


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
