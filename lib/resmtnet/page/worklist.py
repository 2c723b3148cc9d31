"""The worklist: every study with its status, what is known of it, and the order of reading.

No CT is opened for it: it is made of the readings, the answers and the scores that are stored.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import Protocol

import numpy as np

from resmtnet.active.choice import likeness
from resmtnet.active.study_scores import ScoredStudy
from resmtnet.characteristics import class_of_rating
from resmtnet.page.blinding import Blinding
from resmtnet.readings.answer_glance import AnswerGlances, Glance
from resmtnet.readings.record import REPEAT, Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.readings.supersede import by_reader, effective
from resmtnet.types import Json

logger = logging.getLogger(__name__)

NEW, CANDIDATES, READ, CORRECTED = "new", "candidates", "read", "corrected"
STATUSES = (NEW, CANDIDATES, READ, CORRECTED)
"""Nothing is known; the model has found something that nobody has confirmed; somebody has read it;
somebody has said something else than the model."""
BY_STRATEGY, BY_SCORE, BY_DATE, BY_NAME = "strategy", "score", "date", "name"
ORDERS = (BY_STRATEGY, BY_SCORE, BY_DATE, BY_NAME)
ALL, MINE, NOT_MINE = "all", "mine", "not mine"
FILTERS = (ALL, NOT_MINE, MINE, *STATUSES)
LIKE_A_NODULE = 0.5
"""Candidates that look like a nodule at least by this share count in a row's highest score."""
SAME_MM = 0.1
"""Sizes that differ by no more than this are the same."""


class Study(Protocol):
    """What a datastore knows of an image without opening it."""

    @property
    def image(self) -> str:
        """Id of the image."""

    @property
    def name(self) -> str:
        """What a reader calls it: a folder, a file, or a patient."""

    @property
    def date(self) -> str:
        """Of the study, else when it came, as 2026-01-31; "" where neither is known."""


@dataclass(frozen=True)
class Row:
    """One study as one reader may see it."""

    image: str
    name: str
    date: str
    status: str
    readers: tuple[str, ...] = ()
    """Who has read it, the first one first."""
    reading_now: str | None = None
    """Who is reading it now."""
    nodules: int | None = None
    """That readers have confirmed; None: hidden."""
    candidates: int | None = None
    """That the model has found; None: hidden, or not looked for yet."""
    highest_score: float | None = None
    """Malignancy score of the model, 1 to 5; None: hidden, or not known."""
    place: int | None = None
    """In the order of the strategy, 1 first; None: hidden, read already, or not scored."""
    hidden: bool = False
    """Whether the reader reads blinded and has not ended this study."""

    def to_json(self) -> Json:
        """Return plain values."""
        return {**vars(self), "readers": list(self.readers)}


@dataclass(frozen=True)
class Sources:
    """Where the worklist gets what it shows; all of it is stored, and quick to ask for."""

    studies: Callable[[], Sequence[Study]]
    """Returns all studies of the folder or the PACS."""
    store: Callable[[], ReadingStore]
    answers: AnswerGlances
    score: Callable[[str], ScoredStudy | None]
    """Returns a study as the served version scored it; None where it did not."""
    order: Callable[[], Sequence[str]]
    """Returns the studies that nobody has read, the most wanted first; may take seconds."""
    holders: Callable[[], Mapping[str, str]]
    """Returns who is reading which image now."""


class Worklist:
    """The rows of all studies; from any thread."""

    def __init__(self, sources: Sources, blinding: Blinding) -> None:
        """Connect.

        Args:
            sources: of what is shown.
            blinding: decides which of it a reader may see.
        """
        self._from, self._blinding = sources, blinding
        self._lock = Lock()
        self._readings = _ReadingsByImage()
        self._places: dict[str, int] = {}
        self._places_of: object = None
        """The state of the studies that the places were computed for."""
        self._ordering: Thread | None = None

    def rows(
        self, reader: str, order: str = BY_STRATEGY, search: str = "", only: str = ALL
    ) -> list[Row]:
        """Return the rows that a reader may see.

        Args:
            reader: for whom; what he may not see yet neither is in a row nor moves it.
            order: one of ORDERS; any other counts as the first.
            search: words that name, id, status or readers must contain, all of them.
            only: one of FILTERS; any other counts as all.

        Raises:
            StoreError: the readings cannot be read.
        """
        with self._lock:
            found = self._all(reader)
        words = search.casefold().split()
        kept = [row for row in found if _fits(row, words) and _is_of(row, only, reader)]
        return sorted(kept, key=_KEYS.get(order, _KEYS[BY_STRATEGY]))

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes when a row may have changed; costs a few milliseconds."""
        store = self._from.store()
        return (
            store.revision(),
            store.count(),
            tuple(sorted(self._from.holders().items())),
            len(self._from.studies()),
            id(self._places),
        )

    def wait_for_order(self) -> None:
        """Wait until the order of the strategy is known for the rows that were last asked for."""
        if self._ordering is not None:
            self._ordering.join()

    def _all(self, reader: str) -> list[Row]:
        studies = self._from.studies()
        images = [study.image for study in studies]
        store = self._from.store()
        said = self._readings.of(store)
        scored = {i: score for i in images if (score := self._from.score(i)) is not None}
        answered = self._from.answers.of(images)
        places = self._ordered((store.revision(), store.count(), len(images), len(scored)))
        holders = self._from.holders()
        hidden = self._blinding.hidden(images, reader)
        rows = []
        for study in studies:
            image = study.image
            row = _row(study, said.get(image, ()), answered.get(image), scored.get(image))
            row = replace(row, place=places.get(image), reading_now=holders.get(image))
            rows.append(_blinded(row, said.get(image, ()), reader) if image in hidden else row)
        shown = [row.image for row in rows if row.highest_score is not None]
        self._blinding.show_scores(shown, reader)
        return rows

    def _ordered(self, state: object) -> dict[str, int]:
        """Return the place of each study in the strategy's order, as far as it is known.

        It is computed in the background when the studies have changed: no reader waits for it.
        """
        if self._places_of != state and not (self._ordering and self._ordering.is_alive()):
            self._ordering = Thread(target=self._compute_order, args=[state], daemon=True)
            self._ordering.start()
        return self._places

    def _compute_order(self, state: object) -> None:
        try:
            places = {image: n for n, image in enumerate(self._from.order(), start=1)}
        except Exception as error:  # a PACS that is down: the list stays in the order it had
            logger.warning("The order of the worklist is not known: %s", error)
            return
        self._places, self._places_of = places, state


class _ReadingsByImage:
    """What stands of each image, kept up to date by what has arrived."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Reading, ...]] = {}
        self._revision = self._count = 0

    def of(self, store: ReadingStore) -> Mapping[str, tuple[Reading, ...]]:
        revision, count = store.revision(), store.count()
        if count < self._count or revision < self._revision:  # a purge, or another database
            self._found, self._revision = {}, 0
        changed = store.images_since(self._revision)
        if len(changed) > len(self._found) / 2:
            self._found = _standing(store.readings(every=True))
        else:
            for image in changed:
                self._found.pop(image, None)
                self._found |= _standing(store.readings(image, every=True))
        self._revision, self._count = revision, count
        return self._found


def _standing(readings: Iterable[Reading]) -> dict[str, tuple[Reading, ...]]:
    """Return what stands of each image; repeats, which correct nothing, are left out."""
    found: dict[str, list[Reading]] = {}
    for chain in by_reader(one for one in readings if one.purpose != REPEAT):
        stands = effective(chain)
        if stands.says_something:  # what was taken back, and a comment alone, is no reading
            found.setdefault(stands.image, []).append(stands)
    return {image: tuple(readings) for image, readings in found.items()}


def _row(
    study: Study, said: Sequence[Reading], answered: Glance | None, scored: ScoredStudy | None
) -> Row:
    """Make the row of a study as somebody sees it who may see everything."""
    nodules = {one.nodule for one in said if one.class_name != "not_a_nodule"}
    candidates, highest = _found(answered, scored)
    status = CANDIDATES if candidates else NEW
    if said:
        status = CORRECTED if any(map(corrects, said)) else READ
    readers = tuple(dict.fromkeys(one.reader for one in said))
    return Row(
        study.image,
        study.name,
        study.date,
        status,
        readers,
        nodules=len(nodules),
        candidates=candidates,
        highest_score=highest,
    )


def _found(answered: Glance | None, scored: ScoredStudy | None) -> tuple[int | None, float | None]:
    """Return how many nodules the model has found, and the highest score; what was answered first.

    The strategies' scores are used where nobody has asked for an answer yet.
    """
    if answered is not None:
        return answered.nodules, answered.highest_score
    if scored is None:
        return None, None
    if not len(scored):
        return 0, None
    like = likeness(scored)
    counts = like >= min(LIKE_A_NODULE, float(like.max()))
    return int(counts.sum()), float(np.max(scored.score[counts]))


def _blinded(row: Row, said: Sequence[Reading], reader: str) -> Row:
    """Take from a row what the model and other readers say of the study."""
    own = [one for one in said if one.reader == reader]
    nodules = {one.nodule for one in own if one.class_name != "not_a_nodule"}
    return replace(
        row,
        status=READ if row.readers else NEW,
        nodules=len(nodules) if own else None,
        candidates=None,
        highest_score=None,
        place=None,
        hidden=True,
    )


def corrects(reading: Reading) -> bool:
    """Whether a reading says something else than the answer it goes with, or adds a nodule.

    >>> finding = {"class": {"name": "benign"}, "malignancy": {"score": 2.2}, "size": {}}
    >>> from resmtnet.readings.record import Answered
    >>> answer = Answered("4", "", finding)
    >>> [corrects(Reading("ct", "ann", (0, 0, 0), malignancy=m, answered=answer)) for m in (2, 4)]
    [False, True]
    """
    if not reading.says_something:
        return False
    if reading.answered is None or reading.class_name == "not_a_nodule":
        return True
    finding = reading.answered.finding
    name = (finding.get("class") or {}).get("name")
    score = (finding.get("malignancy") or {}).get("score")
    sizes = finding.get("size") or {}
    said = reading.class_name or (
        class_of_rating(reading.malignancy) if reading.malignancy and score is None else None
    )
    other_class = said is not None and said != name
    other_score = (
        reading.malignancy is not None and score is not None and round(score) != reading.malignancy
    )
    other_size = any(
        sizes.get(key) is None or abs(sizes[key] - mm) > SAME_MM
        for key, mm in reading.sizes.items()
        if key.endswith("_mm")
    )
    rated = finding.get("characteristics") or {}
    other_rating = any(
        (rated.get(key) or {}).get("rating") is not None and round(rated[key]["rating"]) != rating
        for key, rating in reading.characteristics.items()
    )
    return other_class or other_score or other_size or other_rating


def _fits(row: Row, words: Sequence[str]) -> bool:
    text = " ".join((row.name, row.image, row.status, row.date, *row.readers)).casefold()
    return all(word in text for word in words)


def _is_of(row: Row, only: str, reader: str) -> bool:
    if only in STATUSES:
        return row.status == only
    if only in (MINE, NOT_MINE):
        return (reader in row.readers) == (only == MINE)
    return True


def _neutral(row: Row) -> str:
    """Sort key of an order that stays the same and says nothing of a study."""
    return hashlib.sha256(row.image.encode()).hexdigest()


def _by_place(row: Row) -> tuple[object, ...]:
    unread = not row.readers
    return not unread, row.place is None, row.place or 0, _neutral(row)


def _by_score(row: Row) -> tuple[object, ...]:
    return row.highest_score is None, -(row.highest_score or 0), _neutral(row)


_KEYS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    BY_STRATEGY: _by_place,
    BY_SCORE: _by_score,
    BY_DATE: lambda row: (not row.date, [-ord(letter) for letter in row.date], row.name),
    BY_NAME: lambda row: (row.name.casefold(), row.image),
}
