"""Scores studies in a background thread of low priority, so that nobody waits for it.

A bounded number of unread studies is scored first, then those that were read: the next choice is
one unlike them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from resmtnet.active.study_scores import ScoredStudy, StudyScores
from resmtnet.ct import CTVolume
from resmtnet.errors import InputError
from resmtnet.inference.protocol import NoduleModel
from resmtnet.readings.patients import patient_of

logger = logging.getLogger(__name__)

AHEAD = 100
"""Unread studies that are kept scored; a limit, so that a PACS is not downloaded as a whole."""
RETRY_S = 600.0
"""Time after which a study that failed is tried again: the PACS may have been down."""
NICENESS = 5
"""Niceness of the scoring thread, so that a click does not wait for it (Linux)."""


class StudyImages(Protocol):
    """Where the images of the studies are."""

    def get_image_uri(self, image_id: str) -> str:
        """Return what `CTVolume.open` takes; may download it first."""

    def content_key(self, image_id: str) -> str | None:
        """Return a key that changes when the image is replaced; None if it is not here."""


class BackgroundScoring:
    """Scores the wanted studies in their order; one that fails is tried again later."""

    def __init__(
        self,
        scores: StudyScores,
        model: Callable[[], NoduleModel],
        images: Callable[[], StudyImages],
        ahead: int = AHEAD,
    ) -> None:
        """Connect scores with images; the thread starts when studies are wanted.

        Args:
            scores: where they are kept.
            model: returns the version that is served now.
            images: returns where the images are.
            ahead: number of unread studies that are kept scored.
        """
        self.scores, self.ahead = scores, ahead
        self._model, self._images = model, images
        self._unread: list[str] = []
        self._read: list[str] = []
        self._unreadable: dict[str, float] = {}
        self._unscored: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def want(self, unread: Iterable[str], read: Iterable[str] = ()) -> None:
        """Set which studies are to be scored, in this order; replaces what was wanted before.

        Args:
            unread: studies that nobody has read; the first `ahead` that can be opened are scored.
            read: studies that were read; all are scored, after the unread ones.
        """
        with self._changed:
            self._unread, self._read = list(unread), list(read)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run, name="resmtnet-scoring", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def get(self, image: str) -> ScoredStudy | None:
        """Return a study as the served version sees it; None where it is not scored yet.

        A study whose image was replaced since it was scored counts as not scored.
        """
        content = self._images().content_key(image)
        return self.scores.get(image, content, self._model().info.sha256)

    def readable(self, image: str) -> bool:
        """Whether a study has not failed to open in the last ten minutes."""
        return time.monotonic() >= self._unreadable.get(image, 0.0)

    def open(self, image: str) -> CTVolume:
        """Open the CT of a study, apart from the cache of CTs that users look at.

        Raises:
            InputError: it cannot be read.
            Exception: of the datastore, which does not have it, or not completely.
        """
        return CTVolume.open(Path(self._images().get_image_uri(image)))

    def reject(self, image: str, reason: object) -> None:
        """Leave out a study that cannot be read, for ten minutes."""
        logger.warning("Study %s is left out: %s", image, reason)
        self._unreadable[image] = time.monotonic() + RETRY_S

    def stop(self, timeout_s: float = 60.0) -> None:
        """End the thread after the study it works on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            with self._changed:
                while not self._stopped and self._next() is None:
                    self._changed.wait()
                if self._stopped:
                    return
                image = self._next()
            if image is not None:
                self._score(image)

    def _next(self) -> str | None:
        now = time.monotonic()

        def possible(images: Iterable[str]) -> Iterator[str]:
            return (i for i in images if self.readable(i) and now >= self._unscored.get(i, 0.0))

        wanted = chain(islice(possible(self._unread), self.ahead), possible(self._read))
        return next((image for image in wanted if self.get(image) is None), None)

    def _score(self, image: str) -> None:
        model = self._model()
        try:
            path = Path(self._images().get_image_uri(image))
            content = self._images().content_key(image)
            if content is None:
                raise InputError("the image was removed while it was opened")
            ct = CTVolume.open(path)
        except Exception as error:  # one study must not end the scoring of the others
            self.reject(image, getattr(error, "detail", error))
            return
        try:
            self.scores.score(image, content, patient_of(path), ct, model)
            self.scores.forget_other_models(model.info.sha256)
        except Exception:  # the study can still be offered, without a score
            logger.exception("Study %s cannot be scored", image)
            self._unscored[image] = time.monotonic() + RETRY_S
