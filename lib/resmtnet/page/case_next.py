"""Which study a reader reads after a case; it is kept for them and made ready while they read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import BoundedSemaphore

from resmtnet.page.case import nodules_of
from resmtnet.page.pictures import crop_picture, whole_picture
from resmtnet.page.services import Services

KEPT_S = 25 * 60.0
"""A study is kept for a reader somewhat longer, see `active.leases`."""
_PREPARATIONS = BoundedSemaphore(1)
"""The studies of several readers are made ready one after the other."""


@dataclass(frozen=True)
class _Kept:
    image: str
    was_read: bool
    """Whether it had been read already: then it is to be read again."""
    since_s: float
    """When it was reserved, on the monotonic clock."""


class Following:
    """The study that follows one case of one visitor; methods wait, and are called in a thread."""

    def __init__(self, services: Services, image: str) -> None:
        """Take a case.

        Args:
            services: see there.
            image: id of the case.
        """
        self._services, self._image = services, image
        self._kept: _Kept | None = None

    @property
    def kept(self) -> str | None:
        """The study that was reserved; None before."""
        return self._kept.image if self._kept else None

    def prepare(self) -> None:
        """Reserve the study that follows, and open its CT.

        What the page will draw of it is read once, so that it lies in the server's caches.
        """
        services = self._services
        if not services.visitor.reader or self._kept is not None:
            return
        with _PREPARATIONS:
            found = self._offered()
            if found is None or found == self._image:
                return
            self._kept = _Kept(found, self._is_read(found), time.monotonic())
            nodules = nodules_of(services, found)
            ct = services.open_ct(found)
            if nodules:
                crop_picture(ct, nodules[0].centre_lps_mm)
            else:
                whole_picture(ct)

    def image(self) -> str | None:
        """Return the study to be read next; None if there is none.

        It is the one that is kept, unless it was read meanwhile or has been kept for too long.

        Raises:
            InputError: the strategy cannot choose, with the reason.
        """
        kept = self._kept
        is_fresh = kept is not None and time.monotonic() - kept.since_s <= KEPT_S
        if kept is not None and is_fresh and self._is_read(kept.image) == kept.was_read:
            return kept.image
        return self._offered()

    def _offered(self) -> str | None:
        for strategy in self._services.strategies:
            found = self._services.next_study(strategy, self._services.visitor.reader)
            return None if found is None else str(found["id"])
        return None

    def _is_read(self, image: str) -> bool:
        return image in self._services.inbox.store.images()
