"""The schema of the readings database as numbered steps; PRAGMA user_version counts those done.

A step is never changed once it was released: a new one is appended.

A row of `nodules` is a point that readings share: where the first of them put it. In `readings`,
`sequence` is the order of arrival and `document` is the whole reading, resmtnet.reading/1; the
columns beside it are what is searched for, such as the radius that it alone gives its nodule.
"""

from __future__ import annotations

APPLICATION_ID = 0x524D5464
"""PRAGMA application_id of a readings database ("RMTd"), so that no other file is taken for one."""


def _append_only(name: str, same: str) -> tuple[str, ...]:
    """Return the triggers by which rows of a table are added, and neither changed nor replaced."""
    told = f"SELECT RAISE(ABORT, '{name} are append-only'); END"
    return (
        f"CREATE TRIGGER {name}_update BEFORE UPDATE ON {name} BEGIN {told}",
        f"CREATE TRIGGER {name}_delete BEFORE DELETE ON {name} BEGIN {told}",
        f"CREATE TRIGGER {name}_replace BEFORE INSERT ON {name} "
        f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {same}) BEGIN {told}",
    )


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE nodules (
            id TEXT NOT NULL PRIMARY KEY,
            image TEXT NOT NULL,
            x_lps_mm REAL NOT NULL,
            y_lps_mm REAL NOT NULL,
            z_lps_mm REAL NOT NULL,
            UNIQUE (id, image)
        ) STRICT""",
        "CREATE INDEX nodules_by_image ON nodules (image)",
        """CREATE TABLE readings (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            image TEXT NOT NULL,
            nodule TEXT NOT NULL,
            reader TEXT NOT NULL,
            evidence TEXT NOT NULL,
            radius_mm REAL NOT NULL,
            arrived_at TEXT NOT NULL,
            document TEXT NOT NULL CHECK (json_valid(document)),
            FOREIGN KEY (nodule, image) REFERENCES nodules (id, image)
        ) STRICT""",
        "CREATE INDEX readings_by_image ON readings (image)",
        "CREATE INDEX readings_by_nodule ON readings (nodule, reader, evidence, sequence)",
        *_append_only("nodules", "id = NEW.id"),
        *_append_only("readings", "id = NEW.id OR sequence = NEW.sequence"),
    ),
    (
        """CREATE TABLE tombstones (
            sequence INTEGER PRIMARY KEY,
            document_sha256 TEXT NOT NULL,
            purged_at TEXT NOT NULL
        ) STRICT""",
        *_append_only("tombstones", "sequence = NEW.sequence"),
        "DROP TRIGGER readings_delete",
        """CREATE TRIGGER readings_delete BEFORE DELETE ON readings
            WHEN NOT EXISTS (SELECT 1 FROM tombstones WHERE sequence = OLD.sequence)
            BEGIN SELECT RAISE(ABORT, 'readings are append-only'); END""",
        "DROP TRIGGER nodules_delete",
        """CREATE TRIGGER nodules_delete BEFORE DELETE ON nodules
            WHEN EXISTS (SELECT 1 FROM readings WHERE image = OLD.image)
            BEGIN SELECT RAISE(ABORT, 'nodules are append-only'); END""",
    ),
)
"""Statements that lead from each version to the next; the first makes the tables."""
