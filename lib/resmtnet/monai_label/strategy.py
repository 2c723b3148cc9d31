"""MONAI Label strategies ("next sample"): offer a study that nobody has read, and say why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from resmtnet.active.background_scoring import BackgroundScoring
from resmtnet.active.choice import Chosen, diverse, informative
from resmtnet.active.leases import LEASE_S, Offer, Offers
from resmtnet.active.repeats import FILE as REPEATED
from resmtnet.active.repeats import LEASE_S as REPEAT_LEASE_S
from resmtnet.active.repeats import Repeats
from resmtnet.active.study_scores import SCORES, ScoredStudy, StudyScores
from resmtnet.errors import InputError
from resmtnet.inference.protocol import NoduleModel
from resmtnet.monai_label.infer import SharedCharacterizer
from resmtnet.monai_label.refusals import as_refusals
from resmtnet.monai_label.request import client_of
from resmtnet.monai_label.volume_paths import VolumePaths
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import REPEAT
from resmtnet.types import Json

OFFERS = "offers.sqlite"
"""Folder and file beside the readings database; both may be deleted at any time."""
RANDOM = "Picked at random among the studies that nobody has read."
UNSCORED = "Not scored yet; picked at random so that you need not wait."
SECOND_BEST = "Studies that are wanted more are being read by others, or were offered before."

AGAIN = (
    "You have read this study before. Please read it again without looking at your earlier reading "
    "or the model's answer: it shows how much one reader varies, corrects nothing and trains "
    "nothing."
)

Choose = Callable[[Sequence[ScoredStudy], Sequence[ScoredStudy], np.random.Generator], Chosen]
"""Takes scored studies that may be offered, and those read or on offer; orders the former."""


@dataclass
class Worklist:
    """What all strategies of a server share: which studies are read, scored and on offer."""

    read: Callable[[], set[str]]
    """Returns the images that have a reading."""
    scoring: BackgroundScoring
    offers: Offers
    generator: np.random.Generator
    repeats: Repeats | None = None
    """Studies that are read again; None: none."""

    def __post_init__(self) -> None:
        self._lock = Lock()  # a numpy generator is not for several threads

    def unread(self, datastore: Datastore) -> list[str]:
        """Return the studies without a reading and without a final label, in random order.

        The readings are looked up each time, since the list of a PACS may be older.
        """
        datastore.list_images()  # notices studies that were copied in since
        read = self.read()
        images = sorted(set(datastore.get_unlabeled_images()) - read)
        with self._lock:
            order = self.generator.permutation(len(images))
        return [images[n] for n in order]

    def scored(self, images: Sequence[str]) -> list[ScoredStudy]:
        """Return those of the studies that the served version has scored."""
        found = (self.scoring.get(image) for image in images)
        return [study for study in found if study is not None]

    def again(self, reader: str, there: Set[str]) -> str | None:
        """Return a study that a reader should read again now; mostly None."""
        if self.repeats is None:
            return None
        with self._lock:
            return self.repeats.offer(reader, there, self.generator)

    def choose(
        self, choose: Choose, free: Sequence[ScoredStudy], done: Sequence[ScoredStudy]
    ) -> Chosen:
        """Choose with the worklist's random generator."""
        with self._lock:
            return choose(free, done, self.generator)


class NextStudy(Strategy):  # type: ignore[misc]
    """One strategy of MONAI Label."""

    def __init__(self, description: str, worklist: Worklist, choose: Choose | None) -> None:
        """Make a strategy.

        Args:
            description: what a viewer shows for it.
            worklist: shared with the other strategies.
            choose: orders scored studies; None: a random choice, for which nothing is scored.
        """
        super().__init__(description)
        self._worklist, self._choose = worklist, choose

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> Json | None:
        """Offer a study.

        Args:
            request: client_id names the reader; everything else is for other apps.
            datastore: has the studies.

        Returns:
            The id, and the reason under "active_learning"; None if all are read or on offer.

        Raises:
            Refusal: the readings database or the PACS does not answer.
        """
        with as_refusals():
            return self._next(client_of(request) or "", datastore)

    def order(self, datastore: Datastore) -> tuple[str, ...]:
        """Return the studies that nobody has read in the order wanted; nothing is offered.

        Those on offer, or not scored yet, are left out; being asked for, they are scored.
        """
        unread = self._worklist.unread(datastore)
        chosen = self._wanted(unread, set(datastore.list_images()))
        return chosen.order

    def holders(self) -> dict[str, str]:
        """Return who is reading which study now."""
        return self._worklist.offers.holders()

    def scored(self, image: str) -> ScoredStudy | None:
        """Return a study as the served version has scored it; None where it has not."""
        return self._worklist.scoring.get(image)

    def open_for(self, image: str, reader: str) -> bool:
        """Note that a reader reads a study now; False where another one is reading it."""
        return self._worklist.offers.take([image], reader) is not None

    def close_for(self, image: str, reader: str) -> None:
        """Note that a reader has closed a study."""
        self._worklist.offers.release(image, reader)

    def _next(self, client: str, datastore: Datastore) -> Json | None:
        work = self._worklist
        unread = work.unread(datastore)
        again = work.again(client, set(datastore.list_images()))
        if again is not None:
            return {
                "id": again,
                "active_learning": {
                    "why": AGAIN,
                    "purpose": REPEAT,
                    "hide": ["answers", "readings"],
                    "unread": len(unread),
                },
            }
        chosen = self._wanted(unread, set(datastore.list_images()))
        first = chosen.order[0] if chosen.order else None
        offer = self._take([*dict.fromkeys([*chosen.order, *unread])], client)
        if offer is None:
            return None
        said = chosen if offer.image == first else Chosen(None, self._reason(offer.image))
        return {
            "id": offer.image,
            "active_learning": {
                "why": said.why,
                "scored": work.scoring.get(offer.image) is not None,
                "score": said.score,
                "nodules": list(said.nodules),
                "unread": len(unread),
                "kept_for_you_until": _time(offer.until_s),
            },
        }

    def _wanted(self, unread: Sequence[str], there: Set[str]) -> Chosen:
        """Order the studies by how much they are wanted; no order where none is scored yet.

        Studies that were read are scored too, if they are still there; until then the choice
        ignores them.
        """
        work = self._worklist
        if self._choose is None:
            return Chosen(None, RANDOM)
        held = work.offers.held()
        free = [image for image in unread if image not in held]
        read = work.read()
        to_free, to_held, to_read = (
            sorted(part, key=_fixed_random) for part in (free, held & set(unread), read & there)
        )
        work.scoring.want([*to_free, *to_held], to_read)
        scored = work.scored(free)
        if not scored:
            return Chosen(None, UNSCORED)
        return work.choose(self._choose, scored, work.scored(sorted(read | held)))

    def _take(self, wanted: Sequence[str], client: str) -> Offer | None:
        """Reserve the first study that can be opened for a reader."""
        work = self._worklist
        while True:
            offer = work.offers.take([i for i in wanted if work.scoring.readable(i)], client)
            if offer is None or self._can_be_opened(offer.image):
                return offer

    def _reason(self, image: str) -> str:
        """Say why another study than the most wanted one is offered."""
        if self._choose is None:
            return RANDOM
        if self._worklist.scoring.get(image) is None:
            return UNSCORED
        return SECOND_BEST

    def _can_be_opened(self, image: str) -> bool:
        """Whether a study can be opened; one that is not scored yet is tried, and downloaded."""
        scoring = self._worklist.scoring
        if scoring.get(image) is not None:
            return True
        try:
            scoring.open(image)
        except (InputError, HTTPException, OSError) as error:
            scoring.reject(image, getattr(error, "detail", error))
            return False
        return True


def make_strategies(
    inbox: Inbox, shared: SharedCharacterizer, datastore: Callable[[], Datastore]
) -> dict[str, Strategy]:
    """The strategies of a server, in the order in which viewers list them.

    Args:
        inbox: has the readings.
        shared: has the version that is served now.
        datastore: returns the images; called when the first study is asked for.
    """
    repeats = Repeats(
        shared.settings.repeat_share,
        lambda: inbox.store.readings(every=True),
        Offers(inbox.database.parent / REPEATED, REPEAT_LEASE_S),
    )
    inbox.is_repeat = repeats.is_repeat
    inbox.read_again = repeats.being_read
    return strategies_over(
        inbox.database,
        lambda: inbox.store.images(),  # opens the store when it is first needed
        lambda: shared.model,
        datastore,
        repeats=repeats,
    )


def strategies_over(
    database: Path,
    read: Callable[[], set[str]],
    model: Callable[[], NoduleModel],
    datastore: Callable[[], Datastore],
    *,
    lease_s: float = LEASE_S,
    seed: int | None = None,
    repeats: Repeats | None = None,
) -> dict[str, Strategy]:
    """The strategies.

    Args:
        database: of the readings; scores and offers are kept beside it.
        read: returns the images that have a reading.
        model: returns the version that is served now.
        datastore: returns the images.
        lease_s: how long a study that was offered is kept for its reader.
        seed: of the random choices; None: another one at each start.
        repeats: which studies are read again; None: none.
    """
    scoring = BackgroundScoring(
        StudyScores(database.parent / SCORES),
        model,
        lambda: VolumePaths(datastore()),
    )
    generator = np.random.default_rng(seed)
    work = Worklist(read, scoring, Offers(database.parent / OFFERS, lease_s), generator, repeats)
    return {
        "resmtnet_informative": NextStudy(
            "The study from which the model learns most: unlike those that were read, and of "
            "undecided class",
            work,
            informative,
        ),
        "resmtnet_diverse": NextStudy(
            "The study least like those that were read (core-set on embeddings)", work, diverse
        ),
        "random": NextStudy("A random study that nobody has read", work, None),
    }


def _fixed_random(image: str) -> str:
    """Sort key of a random order that stays the same: what is scored first is a sample of all."""
    return hashlib.sha256(image.encode()).hexdigest()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
