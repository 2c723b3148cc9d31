"""Keeps which study was offered to which reader, so that no two readers get the same one."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

logger = logging.getLogger(__name__)

LEASE_S = 30 * 60.0
"""How long a study that was offered is kept for its reader."""
_WAIT_S = 10.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS offers "
    "(image TEXT PRIMARY KEY, client TEXT NOT NULL, offered_s REAL NOT NULL)"
)


@dataclass(frozen=True)
class Offer:
    """A study that is kept for one reader for a while."""

    image: str
    client: str
    until_s: float
    """Time since the epoch at which others may have it."""


class Offers:
    """The last offer of each study, in a small SQLite file, or in memory if it cannot be written.

    Safe to use from several threads and processes.
    """

    def __init__(
        self, file: Path, lease_s: float = LEASE_S, clock: Callable[[], float] = time.time
    ) -> None:
        """Look at a file; the first offer makes it.

        Args:
            file: of the offers; may be deleted at any time, then all studies are free again.
            lease_s: how long an offer holds.
            clock: seconds since the epoch.
        """
        self._file, self._lease_s, self._clock = file, lease_s, clock
        self._memory: sqlite3.Connection | None = None
        self._lock = Lock()

    def held(self) -> set[str]:
        """Return the studies that somebody is reading now."""
        with self._connection() as connection:
            since = self._clock() - self._lease_s
            rows = connection.execute("SELECT image FROM offers WHERE offered_s > ?", (since,))
            return {image for (image,) in rows}

    def holders(self) -> dict[str, str]:
        """Return who is reading which study now; clients without a name are left out."""
        with self._connection() as connection:
            since = self._clock() - self._lease_s
            query = "SELECT image, client FROM offers WHERE offered_s > ? AND client != ''"
            return dict(connection.execute(query, (since,)).fetchall())

    def release(self, image: str, client: str) -> None:
        """Free a study that is kept for a reader, who has closed it."""
        with self._connection() as connection, _write(connection):
            change = "UPDATE offers SET offered_s = 0 WHERE image = ? AND client = ?"
            connection.execute(change, (image, client))

    def holds(self, image: str, client: str) -> bool:
        """Whether a study is kept for this reader now."""
        with self._connection() as connection:
            since = self._clock() - self._lease_s
            row = connection.execute(
                "SELECT client FROM offers WHERE image = ? AND offered_s > ?", (image, since)
            ).fetchone()
            return row is not None and row[0] == client

    def take(self, wanted: Sequence[str], client: str) -> Offer | None:
        """Reserve the first study that may be offered for a reader, in one transaction.

        Studies that were never offered come first, in the order wanted; then those whose lease has
        expired, the oldest first; last those on lease to the client itself, so that skipping
        does not end its list. Clients without a name (OHIF) count as one: two of them may get the
        same study, when all others are on lease or read.

        Args:
            wanted: studies that nobody has read, the most wanted first.
            client: name of the reader; "" if it is not known.

        Returns:
            The offer; None if other readers have all of them.
        """
        now = self._clock()
        with self._connection() as connection, _write(connection):
            known = {
                image: (holder, at)
                for image, holder, at in connection.execute("SELECT * FROM offers")
            }

            def order(image: str) -> tuple[int, float] | None:
                if image not in known:
                    return 0, 0.0
                holder, at = known[image]
                if at <= now - self._lease_s:
                    return 1, at
                return (2, at) if holder == client else None

            ranked = [(order(image), n, image) for n, image in enumerate(wanted)]
            allowed = [(rank, n, image) for rank, n, image in ranked if rank is not None]
            if not allowed:
                return None
            image = min(allowed)[2]
            connection.execute(
                "INSERT OR REPLACE INTO offers VALUES (?, ?, ?)", (image, client, now)
            )
        return Offer(image, client, now + self._lease_s)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._memory or self._on_disk()
            try:
                yield connection
            finally:
                if connection is not self._memory:
                    connection.close()

    def _on_disk(self) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            return self._opened(str(self._file))
        except (OSError, sqlite3.Error) as error:
            logger.warning("%s cannot be used (%s): offers are kept in memory", self._file, error)
            self._memory = self._opened(":memory:")
            return self._memory

    def _opened(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            name, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(_TABLE)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


@contextmanager
def _write(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
