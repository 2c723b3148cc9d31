"""Says at once how many studies a PACS has; the PACS, which may be slow, is asked meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from resmtnet.types import Json

logger = logging.getLogger(__name__)

AGAIN_S = 60.0
"""How old an answer may be before the PACS is asked again."""
FIRST_S = 5.0
"""How long the first question waits; later ones are answered with what is known."""
UNKNOWN: Json = {"total": 0, "completed": 0, "label_tags": {}}


class SlowStatus:
    """The last answer to a slow question, renewed by one thread at a time."""

    def __init__(self, ask: Callable[[], Json]) -> None:
        """Ask nothing yet.

        Args:
            ask: the slow question; it may fail.
        """
        self._ask = ask
        self._said: Json | None = None
        self._asked_s = -AGAIN_S
        self._answered = Event()
        self._lock = Lock()

    def read(self) -> Json:
        """Return the last answer; it is renewed in the background when it is old."""
        with self._lock:
            if time.monotonic() - self._asked_s >= AGAIN_S:
                self._asked_s = time.monotonic()
                Thread(target=self._renew, name="status-of-pacs", daemon=True).start()
        if self._said is None:
            self._answered.wait(FIRST_S)
        return dict(self._said or UNKNOWN)

    def _renew(self) -> None:
        try:
            self._said = self._ask()
        except Exception as error:  # the last answer stands
            logger.warning("The PACS did not say what it has: %s", type(error).__name__)
        finally:
            self._answered.set()
