"""A copy of a readings database and its masks, complete when it appears."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from resmtnet.errors import StoreError
from resmtnet.files import atomic_file, make_folder
from resmtnet.readings import mask_files
from resmtnet.readings.database import Database, masks_folder, store_errors
from resmtnet.readings.migrations import APPLICATION_ID


def back_up(database: Database, path: Path) -> int:
    """Copy a database by SQLite's own online backup, and the masks that its readings name.

    Args:
        database: to copy; others may go on writing to it.
        path: file to write; an older backup there is replaced.

    Returns:
        Number of readings in the copy.

    Raises:
        StoreError: the place holds something else, is in use, or cannot be written.
    """
    with store_errors(path):
        make_folder(path.parent, private=True)
        _check_place(path, database.path)
        with atomic_file(path, private=True) as draft:
            count = _copy(database, draft)
            mask_files.copy_all(masks_folder(database.path), masks_folder(path))
        return count


def _check_place(path: Path, source: Path) -> None:
    if path.resolve() == source.resolve() or Path(f"{path}-wal").exists():
        raise StoreError(f"{path} is in use: write the backup to another file")
    if path.exists() and path.stat().st_size:
        with closing(sqlite3.connect(path)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION_ID:
            raise StoreError(f"{path} holds something else: it is not replaced; name another file")


def _copy(database: Database, draft: Path) -> int:
    """Copy the database, check the copy, and return how many readings it holds."""
    with database.reading() as connection, closing(sqlite3.connect(draft)) as target:
        connection.backup(target)
        # One file without a log beside it; opening it as a store brings the log back.
        target.execute("PRAGMA journal_mode = DELETE")
        problem = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StoreError(f"{database.path} is damaged ({problem}): its copy was not kept")
        count = int(target.execute("SELECT count(*) FROM readings").fetchone()[0])
    return count
