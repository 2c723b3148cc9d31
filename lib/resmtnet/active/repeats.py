"""Offers a reader some studies again, so that it can be told how much one reader varies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from resmtnet.active.leases import Offers
from resmtnet.readings.record import REPEAT, Reading

LEAST_WAIT = timedelta(days=14)
"""After the last reading of a study, so that its reader no longer remembers it."""
LEASE_S = 12 * 3600.0
"""How long what a reader says of a study that was offered again counts as a repeat."""
FILE = "repeats.sqlite"


@dataclass
class Repeats:
    """Which studies are read again, and by whom."""

    share: float
    """Of all offers, 0 to 1; 0: nothing is read again."""
    readings: Callable[[], Sequence[Reading]]
    """Returns every single reading."""
    offers: Offers
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)

    def offer(
        self, reader: str, there: Iterable[str], generator: np.random.Generator
    ) -> str | None:
        """Return a study that a reader should read again now; mostly None.

        Args:
            reader: who asks; one without a name is offered nothing again.
            there: images that can be opened.
            generator: decides whether, and which.
        """
        if not reader or not generator.random() < self.share:
            return None
        due = sorted(set(self.due(reader)) & set(there))
        if not due:
            return None
        image = due[int(generator.integers(len(due)))]
        return image if self.offers.take([image], reader) else None

    def due(self, reader: str) -> list[str]:
        """Return the images that a reader read at least LEAST_WAIT ago and never again."""
        last: dict[str, datetime] = {}
        repeated = set()
        for one in self.readings():
            if one.reader == reader:
                last[one.image] = max(last.get(one.image, one.made_at), one.made_at)
                if one.purpose == REPEAT:
                    repeated.add(one.image)
        until = self.now() - LEAST_WAIT
        return [image for image, at in last.items() if at <= until and image not in repeated]

    def being_read(self) -> set[str]:
        """Return the images that somebody was offered to read again, and may be reading now."""
        return self.offers.held() if self.share > 0 else set()

    def is_repeat(self, image: str, reader: str) -> bool:
        """Whether an image was offered to a reader to be read again."""
        return self.share > 0 and self.offers.holds(image, reader)
