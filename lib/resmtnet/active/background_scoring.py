"""Scores studies while nobody waits: one thread of low priority, a bounded stock ahead.

Those that were read are scored after that stock: the next choice is one unlike them.
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

from resmtnet.active.study_scores import ScoredStudy, StudyScores
from resmtnet.ct import CTVolume
from resmtnet.inference.protocol import NoduleModel
from resmtnet.readings.patients import patient_of

logger = logging.getLogger(__name__)

AHEAD = 100
"""Unread studies that are kept scored: a PACS is not downloaded as a whole."""
RETRY_S = 600.0
"""After which a study that failed is tried again: the PACS may have been away."""
NICENESS = 5
"""Of the scoring thread, so that a click does not wait for it (Linux)."""


class BackgroundScoring:
    """Scores the studies it is told of, the first first; one that fails is tried again later."""

    def __init__(
        self,
        scores: StudyScores,
        model: Callable[[], NoduleModel],
        volume_path: Callable[[str], str | Path],
        ahead: int = AHEAD,
    ) -> None:
        """Connect scores with images; the thread starts with the first study.

        Args:
            scores: kept here.
            model: the version that is served now.
            volume_path: what `CTVolume.open` takes, by image id; may download.
            ahead: studies that are kept scored.
        """
        self.scores, self.ahead = scores, ahead
        self._model, self._volume_path = model, volume_path
        self._unread: list[str] = []
        self._read: list[str] = []
        self._unreadable: dict[str, float] = {}
        self._unscored: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def want(self, unread: Iterable[str], read: Iterable[str] = ()) -> None:
        """Say which studies are to be scored, in this order; replaces what was said before.

        Args:
            unread: nobody has read them; the first `ahead` of those that can be opened are scored.
            read: scored after these, all of them: a new version has seen none.
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
        """Return a study as the served version sees it; None where it is not scored yet."""
        return self.scores.get(image, self._model().info.sha256)

    def readable(self, image: str) -> bool:
        """Whether nothing is known against a study: it was read, or not tried yet."""
        return time.monotonic() >= self._unreadable.get(image, 0.0)

    def open(self, image: str) -> CTVolume:
        """Open the CT of a study, not through the cache of those that a user looks at.

        Raises:
            InputError: it cannot be read.
            HTTPException: the datastore has it not, or not whole.
        """
        return self._open(image)[0]

    def _open(self, image: str) -> tuple[CTVolume, Path]:
        path = Path(self._volume_path(image))
        return CTVolume.open(path), path

    def reject(self, image: str, reason: object) -> None:
        """Leave out for a while a study that cannot be read."""
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
            ct, path = self._open(image)
        except Exception as error:  # one study must not end the scoring of the others
            self.reject(image, getattr(error, "detail", error))
            return
        try:
            self.scores.keep_patient(image, patient_of(path))
            self.scores.score(image, ct, model)
            self.scores.forget_other_models(model.info.sha256)
        except Exception:  # it can be offered without a score
            logger.exception("Study %s cannot be scored", image)
            self._unscored[image] = time.monotonic() + RETRY_S
