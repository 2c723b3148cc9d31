"""One SQLite file of readings: checked before it is touched, migrated, written durably.

Every commit is on the disk when it returns (write-ahead log, synchronous=FULL). Writers also queue
at a lock file: SQLite before 3.51.3 can damage a file when one process checkpoints its log while
another commits ("WAL-reset bug", https://sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from resmtnet.errors import StoreError
from resmtnet.files import make_folder, sync
from resmtnet.readings.location import network_file_system
from resmtnet.readings.migrations import APPLICATION_ID, MIGRATIONS

BUSY_S = 30.0
"""How long a writer waits for the others before it gives up."""
POLL_S = 0.002
RESTORE = (
    "nothing was changed; move it away, with the files -wal and -shm beside it, and copy a backup "
    "(`resmtnet readings backup` writes them) into its place"
)
UNKNOWN = "nothing was stored; check the disk and the folder, and try again"
ADVICE = (
    (("readonly", "read-only", "permission"), "the folder must be writable"),
    (("full", "no space", "file too large", "quota"), "free disk space"),
    (("locked", "busy"), "another process holds the file; wait, or stop it"),
    (("malformed", "not a database", "corrupt"), f"the file is damaged: {RESTORE}"),
    (("unable to open",), "the folder must exist, be writable, and have space left"),
    (("disk i/o",), "the disk refused to write: check its space, its limits and its health"),
)
"""Words in SQLite's and the system's messages, and what to do about each."""


class Database:
    """An open file; several threads, processes and forks may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open the file, making or migrating it.

        Raises:
            StoreError: it is damaged, newer, no readings database, or cannot be written.
        """
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        """Open connections that no thread uses now. They stay open: the last one that is closed
        writes the log back into the file, which must not happen while another process commits."""
        self._process = os.getpid()
        self._inherited: list[sqlite3.Connection] = []
        """Of the process that this one was forked from; they must be neither used nor closed."""
        with store_errors(path):
            make_folder(path.parent, private=True)
            _refuse_network(path)
            with self._alone():
                _inspect(path)
                _prepare(path)
            self._inode = _inode(path)

    def check_in_place(self) -> None:
        """Refuse to go on where the file has disappeared or was replaced.

        An open file can be written to after it was deleted: what is written is lost.

        Raises:
            StoreError: with what to do.
        """
        try:
            same = _inode(self.path) == self._inode
        except OSError:
            same = False
        if not same:
            raise StoreError(
                f"{self.path} has disappeared or was replaced while it was open: nothing is stored "
                "or read. Bring the disk or the file back, and restart the server"
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of the database throughout."""
        self.check_in_place()
        with store_errors(self.path), self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are on the disk when the block ends, or not at all."""
        self.check_in_place()
        with (
            store_errors(self.path),
            self._alone(),
            self._transaction("BEGIN IMMEDIATE") as connection,
        ):
            yield connection
        self.check_in_place()

    def empty_log(self) -> None:
        """Write the log back into the file, so that it no longer holds what was deleted."""
        with store_errors(self.path), self._alone(), closing(_connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every connection of this process."""
        with store_errors(self.path), self._alone():
            self._forget_inherited()
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Give a connection within a transaction, which is undone if the block fails."""
        self._forget_inherited()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _connect(self.path)
        try:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with suppress(sqlite3.Error):  # the first error is the one to tell
                    connection.execute("ROLLBACK")
            raise
        finally:
            self._idle.append(connection)

    def _forget_inherited(self) -> None:
        """In a fork begin with connections of its own: none may cross over."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._inherited += self._idle
            self._idle = []

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only writer, among threads and processes."""
        lock = FileLock(f"{self.path}.lock", timeout=BUSY_S, thread_local=False)
        try:
            lock.acquire(poll_interval=POLL_S)
        except Timeout as error:
            raise StoreError(
                f"{self.path}: another process has been writing for {BUSY_S:.0f} s; stop it, or "
                "try again"
            ) from error
        try:
            yield
        finally:
            lock.release()


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into a StoreError that says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = str(error)
        found = [advice for words, advice in ADVICE if any(w in text.lower() for w in words)]
        raise StoreError(f"{path}: {text}; {found[0] if found else UNKNOWN}") from error


def _refuse_network(path: Path) -> None:
    kind = network_file_system(path.parent)
    if kind is not None:
        raise StoreError(
            f"{path} is on a network file system ({kind}), where several processes cannot share a "
            "write-ahead log; keep the readings on a local disk and back them up to this one"
        )


def _inspect(path: Path) -> None:
    """Refuse a file that is not ours, damaged or newer, before anything is written to it.

    Answers and versions are written only after the database was made: a site that has them, but no
    database, has lost it.
    """
    log, masks = Path(f"{path}-wal"), masks_folder(path)
    empty = not path.exists() or not path.stat().st_size
    if empty:
        beside = [path.with_name("answers"), *path.parent.glob("models/[!.]*/")]
        beside.append(path.with_name("models") / "current.json")
        left = [place for place in (log, masks, *beside) if _holds_something(place)]
        if left:
            raise StoreError(
                f"{path} is missing or empty, but {left[0]} is not: {RESTORE}; or, to begin anew "
                f"without the earlier readings, move {left[0]} away too"
            )
        return
    with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        if application != APPLICATION_ID:
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if application or version or tables:
                raise StoreError(f"{path} is a database of something else: name another file")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} has schema {version}, this version of resmtnet knows {len(MIGRATIONS)}: "
                "nothing was changed; use the newer version that wrote it"
            )
        problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problems != "ok":
            raise StoreError(f"{path} is damaged ({' '.join(problems.split())}): {RESTORE}")


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _holds_something(place: Path) -> bool:
    if place.is_dir():
        return any(not inner.name.startswith(".") for inner in place.iterdir())
    return place.is_file() and place.stat().st_size > 0


def _prepare(path: Path) -> None:
    """Bring the file to the newest schema, in one transaction per step."""
    new = not path.exists()
    if new:  # SQLite gives the permissions of the file to its log as well
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                f"{path}: this file system does not support a write-ahead log (journal mode "
                f"{mode!r}); keep the readings on a local disk"
            )
        connection.execute("PRAGMA synchronous = FULL")
        done = connection.execute("PRAGMA user_version").fetchone()[0]
        for version, statements in enumerate(MIGRATIONS[done:], start=done + 1):
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
    if new:
        sync(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    """Open a connection that leaves BEGIN and COMMIT to us, for one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what a purge deletes is overwritten
    return connection


def masks_folder(path: Path) -> Path:
    """Return the folder of the masks of a database, beside it.

    >>> masks_folder(Path("studies/resmtnet/readings.sqlite")).name
    'readings-masks'
    """
    return path.with_name(f"{path.stem}-masks")
