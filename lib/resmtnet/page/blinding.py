"""What a reader may see of a study before saying his own: the one place that decides.

A blinded reader sees neither the model's answer nor what follows from it or from other readers,
until he has said his own of a nodule (then all that is known of that nodule) or has ended the study
(then everything). What is said after something was shown is recorded as seen, for good: switching
blinded reading on again does not undo it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from resmtnet.audit import audit
from resmtnet.errors import StoreError
from resmtnet.findings import ModelInfo
from resmtnet.readings.matching import distance_in_reach_mm, radius_mm
from resmtnet.readings.record import REPEAT, Answered, Reading
from resmtnet.types import Json, Point

FILE = "blinding.sqlite"
"""Beside the readings database."""
RANDOM = "random"
"""The strategy that says nothing of a study."""
_WAIT_S = 10.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS blinded (reader TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS shown (image TEXT NOT NULL, reader TEXT NOT NULL, "
    "shown_s REAL NOT NULL, PRIMARY KEY (image, reader))",
    "CREATE TABLE IF NOT EXISTS scores_shown (image TEXT NOT NULL, reader TEXT NOT NULL, "
    "PRIMARY KEY (image, reader))",
)


@dataclass(frozen=True)
class Sight:
    """What one reader may see of one study."""

    image: str
    reader: str
    whole: bool
    """Everything may be seen; the fields below then do not matter."""
    said: tuple[Reading, ...] = ()
    """What the reader himself has said of the nodules of this study."""
    is_repeat: bool = False
    """The study is read again, so that the reader's own earlier words are hidden as well."""

    def shows_at(self, centre_lps_mm: Point) -> bool:
        """Whether the model's answer and other readers' words at a place may be seen."""
        return self.whole or any(
            one.centre_lps_mm is not None
            and distance_in_reach_mm(centre_lps_mm, [one.centre_lps_mm], radius_mm(one.sizes))
            is not None
            for one in self.said
        )

    def findings(self, nodules: Iterable[Json]) -> list[Json]:
        """Return the entries of "nodules" of resmtnet.findings/1 that may be seen."""
        return [one for one in nodules if self.shows_at(_centre(one["centre_lps_mm"]))]

    def readings(self, readings: Iterable[Reading]) -> list[Reading]:
        """Return the readings that may be seen: one's own, and those of nodules one has read."""
        return [
            one
            for one in readings
            if self.whole
            or (one.reader == self.reader and (not self.is_repeat or one.purpose == REPEAT))
            or (one.centre_lps_mm is not None and self.shows_at(one.centre_lps_mm))
        ]


def strategy_for(asked: str, known: Iterable[str], *, blinded: bool) -> str:
    """Return the strategy that offers a reader the next study: its order tells what models doubt.

    >>> strategy_for("resmtnet_informative", ["resmtnet_informative", "random"], blinded=True)
    'random'
    """
    return RANDOM if blinded and RANDOM in known else asked


class Blinding:
    """Who reads blinded, and what was shown to whom; from any thread and process."""

    def __init__(
        self,
        file: Path,
        readings: Callable[[str], Sequence[Reading]],
        *,
        always: bool = False,
        is_repeat: Callable[[str, str], bool] = lambda image, reader: False,
        was_answered: Callable[[str, str], bool] = lambda image, reader: False,
    ) -> None:
        """Take a file; it is made when somebody first reads.

        Args:
            file: of the readers who read blinded, and of what was shown; it must not be deleted,
                or readings would count as blinded that are not.
            readings: returns every single reading of an image.
            always: every reader reads blinded, and cannot switch it off.
            is_repeat: whether a study was offered to a reader to be read again, without the
                answers and his earlier readings.
            was_answered: whether a reader was given an answer for an image in another viewer.
        """
        self._file, self._readings, self._always = file, readings, always
        self._is_repeat, self._was_answered = is_repeat, was_answered
        self._lock = Lock()
        self._noted: set[tuple[str, str]] = set()
        """Images and readers of which scores_shown has a row already."""

    @property
    def always(self) -> bool:
        """Whether every reader of this site reads blinded."""
        return self._always

    def is_on(self, reader: str) -> bool:
        """Whether a reader reads blinded."""
        if self._always:
            return True
        with self._connection() as connection:
            query = "SELECT 1 FROM blinded WHERE reader = ?"
            return connection.execute(query, (reader,)).fetchone() is not None

    def switch(self, reader: str, on: bool) -> None:
        """Switch blinded reading on or off for a reader.

        Raises:
            StoreError: it cannot be kept; nothing has changed.
        """
        change = "INSERT OR IGNORE INTO blinded" if on else "DELETE FROM blinded WHERE reader ="
        with self._connection() as connection:
            connection.execute(f"{change} {'VALUES (?)' if on else '?'}", (reader,))
        audit("blinded reading", reader=reader, on=on)

    def sight(self, image: str, reader: str) -> Sight:
        """Return what a reader may see of a study now."""
        repeat = self._is_repeat(image, reader)
        if not repeat and (not self.is_on(reader) or self._has("shown", image, reader)):
            return Sight(image, reader, whole=True)
        return Sight(image, reader, False, tuple(self._said(image, reader, repeat)), repeat)

    def hidden(self, images: Iterable[str], reader: str) -> set[str]:
        """Return those of many studies of which a reader may not see everything yet."""
        if not self.is_on(reader):
            return {image for image in images if self._is_repeat(image, reader)}
        with self._connection() as connection:
            query = "SELECT image FROM shown WHERE reader = ?"
            shown = {image for (image,) in connection.execute(query, (reader,))}
        return {i for i in images if i not in shown or self._is_repeat(i, reader)}

    def show(self, image: str, reader: str) -> None:
        """Note that a reader is shown everything of a study; call it before it is shown.

        Raises:
            StoreError: it cannot be noted, and must not be shown.
        """
        with self._connection() as connection:
            row = (image, reader, time.time())
            done = connection.execute("INSERT OR IGNORE INTO shown VALUES (?, ?, ?)", row)
        if done.rowcount:
            audit("answers shown", image=image, reader=reader)

    def show_scores(self, images: Iterable[str], reader: str) -> None:
        """Note that a reader is shown the worklist's scores of studies, not the answers."""
        rows = {(image, reader) for image in images} - self._noted
        if rows:
            with self._connection() as connection:
                connection.executemany("INSERT OR IGNORE INTO scores_shown VALUES (?, ?)", rows)
            self._noted |= rows

    def seen(self, image: str, reader: str, centre_lps_mm: Point) -> bool | None:
        """Return whether a reader had seen an answer when he says something of a place now.

        Returns:
            For `Answered.seen`: False is blinded; None is not known: he was shown no answer, but
            either does not read blinded, or has seen the study's score in the worklist.
        """
        repeat = self._is_repeat(image, reader)
        if not repeat and (self._has("shown", image, reader) or self._was_answered(image, reader)):
            return True
        if not (repeat or self.is_on(reader)):
            return None
        said = tuple(self._said(image, reader, repeat))
        if Sight(image, reader, False, said).shows_at(centre_lps_mm):
            return True
        return None if self._has("scores_shown", image, reader) else False

    def answered(self, image: str, reader: str, finding: Json, model: ModelInfo) -> Answered:
        """Return the answer that a reading goes with, and whether its reader had seen it.

        Args:
            image: id of the image.
            reader: who says it now.
            finding: entry of "nodules" in resmtnet.findings/1, at the same place.
            model: that answered.
        """
        seen = self.seen(image, reader, _centre(finding["centre_lps_mm"]))
        return Answered(model.version, model.sha256, finding, seen)

    def forget(self, images: Set[str]) -> None:
        """Delete what is noted of images, as a purge of a patient does."""
        if self._file.exists():
            with self._connection() as connection:
                for table in ("shown", "scores_shown"):
                    gone = [(image,) for image in images]
                    connection.executemany(f"DELETE FROM {table} WHERE image = ?", gone)
            self._noted = {row for row in self._noted if row[0] not in images}

    def _has(self, table: str, image: str, reader: str) -> bool:
        with self._connection() as connection:
            query = f"SELECT 1 FROM {table} WHERE image = ? AND reader = ?"
            return connection.execute(query, (image, reader)).fetchone() is not None

    def _said(self, image: str, reader: str, repeat: bool) -> list[Reading]:
        """What a reader has said of a study in his own words; of a repeat only what is of it."""
        return [
            one
            for one in self._readings(image)
            if one.reader == reader and one.says_something and repeat == (one.purpose == REPEAT)
        ]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self._file, timeout=_WAIT_S)
                try:
                    for table in _TABLES:
                        connection.execute(table)
                    with connection:
                        yield connection
                finally:
                    connection.close()
            except (OSError, sqlite3.Error) as error:
                raise StoreError(
                    f"{self._file} cannot be used ({error}): who reads blinded is not known, so "
                    "that no answer is shown. Give the server write access to its folder"
                ) from error


def _centre(values: Sequence[float]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
