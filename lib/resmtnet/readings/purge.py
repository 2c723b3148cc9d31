"""Deletes what readers said of a patient; a tombstone takes the place of each reading.

Readings are never changed, and no number of arrival is used twice. A purge is the one exception: it
deletes the text of a reading, and keeps its number with the SHA-256 of the text. So it can still be
checked that no other reading is missing, and that a reading in an old backup is one of those that
were to be deleted.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from resmtnet.readings.database import Database, masks_folder
from resmtnet.readings.patients import patients_of
from resmtnet.readings.record import Reading
from resmtnet.readings.serialise import from_text


@dataclass(frozen=True)
class Purged:
    """What was deleted."""

    images: frozenset[str]
    """Ids of the images of the patient."""
    readings: int
    masks: int


def purge(database: Database, names: Set[str], images: Set[str], dry_run: bool) -> Purged:
    """Delete the readings of a patient, and masks that no other reading has.

    Args:
        database: of the readings.
        names: under which the patient is known: PatientID and pseudonym, see patients.names_of.
        images: ids of images that are known to be of the patient, whatever the readings say.
        dry_run: only say what would be deleted.

    Raises:
        StoreError: nothing was deleted.
    """
    with database.writing() as connection:
        rows = connection.execute("SELECT sequence, document FROM readings").fetchall()
        texts = dict(rows)
        readings = {sequence: from_text(document) for sequence, document in rows}
        theirs = _images_of(list(readings.values()), names) | images
        gone = {n: one for n, one in readings.items() if one.image in theirs}
        kept = {one.mask.file for n, one in readings.items() if one.mask and n not in gone}
        masks = {one.mask.file for one in gone.values() if one.mask} - kept
        if not dry_run:
            _delete(connection, {n: texts[n] for n in gone}, {r.image for r in gone.values()})
    if not dry_run:
        for name in masks:
            with suppress(FileNotFoundError):
                Path(masks_folder(database.path), name).unlink()
        database.empty_log()
    return Purged(frozenset(theirs), len(gone), len(masks))


def problems(connection: sqlite3.Connection) -> list[str]:
    """Return what is missing in the chain of readings and tombstones; empty if nothing is."""
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'readings'"
    last = (connection.execute(query).fetchone() or (0,))[0]
    kept = {n for (n,) in connection.execute("SELECT sequence FROM readings")}
    buried = {n for (n,) in connection.execute("SELECT sequence FROM tombstones")}
    missing = sorted(set(range(1, last + 1)) - kept - buried)
    told = [f"reading {n} is missing, and no purge has deleted it" for n in missing]
    return told + [f"reading {n} was deleted by a purge, but is there" for n in kept & buried]


def _images_of(readings: list[Reading], names: Set[str]) -> frozenset[str]:
    """The images of patients who have one of the names."""
    patients = patients_of((reading.image, reading.study_patient) for reading in readings)
    return frozenset(image for image, patient in patients.items() if patient.names & names)


def _delete(connection: sqlite3.Connection, texts: dict[int, str], images: Set[str]) -> None:
    now = datetime.now(timezone.utc).isoformat()
    for sequence, text in texts.items():
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        connection.execute("INSERT INTO tombstones VALUES (?, ?, ?)", (sequence, sha256, now))
        connection.execute("DELETE FROM readings WHERE sequence = ?", (sequence,))
    for image in images:
        connection.execute("DELETE FROM nodules WHERE image = ?", (image,))
