"""The strategies of "next sample": a study that nobody has read, and why this one."""

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
from resmtnet.active.choice import Chosen, ScoredImage, diverse, informative
from resmtnet.active.leases import LEASE_S, Offer, Offers
from resmtnet.active.study_scores import StudyScores
from resmtnet.errors import InputError
from resmtnet.inference.protocol import NoduleModel
from resmtnet.monai_label.datastore import VolumePaths
from resmtnet.monai_label.infer import SharedCharacterizer
from resmtnet.monai_label.labels import Submissions
from resmtnet.monai_label.refusals import as_refusals
from resmtnet.types import Json

SCORES, OFFERS = "scores", "offers.sqlite"
"""Beside the readings database; both may be deleted at any time."""
ANY = "any study that nobody has read, all equally likely"
UNSCORED = "not scored yet: chosen by chance, because an answer at once is worth more"

Choose = Callable[[Sequence[ScoredImage], Sequence[ScoredImage], np.random.Generator], Chosen]
"""Of scored studies that may be offered, and of those read or on offer: one of the former."""


@dataclass
class Worklist:
    """What all strategies of a server share: what is read, scored and on offer."""

    read: Callable[[], set[str]]
    """Images that have a reading."""
    scoring: BackgroundScoring
    offers: Offers
    generator: np.random.Generator

    def __post_init__(self) -> None:
        self._lock = Lock()  # a numpy generator is not for several threads

    def unread(self, datastore: Datastore) -> list[str]:
        """Studies without a reading and without a final label, in an order of chance.

        The readings are asked each time: a list of a PACS may be older than the last reading.
        """
        datastore.list_images()  # sees what was copied in since
        read = self.read()
        images = sorted(set(datastore.get_unlabeled_images()) - read)
        with self._lock:
            order = self.generator.permutation(len(images))
        return [images[n] for n in order]

    def known(self, images: Sequence[str]) -> list[ScoredImage]:
        """Those that are scored by the served version."""
        found = [(image, self.scoring.get(image)) for image in images]
        patient = self.scoring.scores.patient
        return [
            ScoredImage(image, study, patient(image)) for image, study in found if study is not None
        ]

    def choose(
        self, choose: Choose, free: Sequence[ScoredImage], done: Sequence[ScoredImage]
    ) -> Chosen:
        """Run a choice with the worklist's own chance."""
        with self._lock:
            return choose(free, done, self.generator)


class NextStudy(Strategy):  # type: ignore[misc]
    """One strategy."""

    def __init__(self, description: str, worklist: Worklist, choose: Choose | None) -> None:
        """Make a strategy.

        Args:
            description: what a viewer shows for it.
            worklist: shared with the other strategies.
            choose: one of several scored studies; None: by chance, no study is scored.
        """
        super().__init__(description)
        self._worklist, self._choose = worklist, choose

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> Json | None:
        """Offer a study.

        Args:
            request: client_id, of whom asks; everything else is for other apps.
            datastore: has the studies.

        Returns:
            id, and under "active_learning" why; None where every study is read or on offer.

        Raises:
            Refusal: the readings database or the PACS does not answer.
        """
        client = request.get("client_id")
        with as_refusals():
            return self._next(client if isinstance(client, str) else "", datastore)

    def _next(self, client: str, datastore: Datastore) -> Json | None:
        work = self._worklist
        unread = work.unread(datastore)
        chosen = self._wish(unread, set(datastore.list_images()))
        first = chosen.order[0] if chosen.order else None
        offer = self._take([*dict.fromkeys([*chosen.order, *unread])], client)
        if offer is None:
            return None
        said = chosen if offer.image == first else Chosen(None, self._otherwise(offer.image))
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

    def _wish(self, unread: Sequence[str], there: Set[str]) -> Chosen:
        """Say which studies are wanted; nothing in particular where none is scored yet.

        Those that were read are scored too, if they are still there: before the served version
        has seen one, the choice does without it.
        """
        work = self._worklist
        if self._choose is None:
            return Chosen(None, ANY)
        held = work.offers.held()
        free = [image for image in unread if image not in held]
        read = work.read()
        to_free, to_held, to_read = (
            sorted(part, key=_lot) for part in (free, held & set(unread), read & there)
        )
        work.scoring.want([*to_free, *to_held], to_read)
        scored = work.known(free)
        if not scored:
            return Chosen(None, UNSCORED)
        return work.choose(self._choose, scored, work.known(sorted(read | held)))

    def _take(self, wanted: Sequence[str], client: str) -> Offer | None:
        """Keep the first that can be read for a client."""
        work = self._worklist
        while True:
            offer = work.offers.take([i for i in wanted if work.scoring.readable(i)], client)
            if offer is None or self._can_be_opened(offer.image):
                return offer

    def _otherwise(self, image: str) -> str:
        if self._choose is None:
            return ANY
        if self._worklist.scoring.get(image) is None:
            return UNSCORED
        return "what was more wanted is being read by others, or was offered before"

    def _can_be_opened(self, image: str) -> bool:
        """A study that is not scored yet may be none; a PACS sends it now rather than later."""
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
    submissions: Submissions, shared: SharedCharacterizer, datastore: Callable[[], Datastore]
) -> dict[str, Strategy]:
    """The strategies of a server, in the order in which viewers list them.

    Args:
        submissions: know what was read.
        shared: has the version that is served now.
        datastore: has the images; asked when it exists.
    """
    return strategies_over(
        submissions.database,
        lambda: submissions.store.images(),  # the store is opened, or tried again, when asked
        lambda: shared.model,
        datastore,
    )


def strategies_over(
    database: Path,
    read: Callable[[], set[str]],
    model: Callable[[], NoduleModel],
    datastore: Callable[[], Datastore],
    *,
    lease_s: float = LEASE_S,
    seed: int | None = None,
) -> dict[str, Strategy]:
    """The strategies.

    Args:
        database: of the readings; scores and offers are kept beside it.
        read: images that have a reading.
        model: the version that is served now.
        datastore: has the images.
        lease_s: how long a study that was offered is kept for its reader.
        seed: of the choices by chance; None: another at each start.
    """
    scoring = BackgroundScoring(
        StudyScores(database.parent / SCORES),
        model,
        lambda image: VolumePaths(datastore()).get_image_uri(image),
    )
    generator = np.random.default_rng(seed)
    work = Worklist(read, scoring, Offers(database.parent / OFFERS, lease_s), generator)
    return {
        "resmtnet_informative": NextStudy(
            "The study that teaches most: kinds of nodules that were read too rarely, and among "
            "them what the model is least sure of",
            work,
            informative,
        ),
        "resmtnet_diverse": NextStudy(
            "The study least like those that were read (core-set on embeddings)", work, diverse
        ),
        "random": NextStudy("Any study that nobody has read", work, None),
    }


def _lot(image: str) -> str:
    """An order of chance that stays the same: those scored first are a sample of all."""
    return hashlib.sha256(image.encode()).hexdigest()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
