"""The studies of a site: as a datastore, and as inference and training see it, by their paths."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings as platform
from monailabel.interfaces.datastore import Datastore

from resmtnet.errors import StoreError
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.refusals import Refusal
from resmtnet.readings.inbox import Inbox

logger = logging.getLogger(__name__)


def studies_datastore(studies: str, inbox: Inbox) -> StudiesDatastore:
    """Return the datastore of a folder, with MONAI Label's own settings.

    A database that is damaged or lost is told in the log; the server starts all the same.
    """
    datastore = StudiesDatastore(
        studies,
        platform.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        platform.MONAI_LABEL_DATASTORE_READ_ONLY,
        lambda: inbox.store.images(),
        inbox.database.parent,
        lambda image: _last_reader(inbox, image),
    )
    try:
        inbox.store.check_in_place()
    except StoreError as error:
        logger.error("No reading can be stored: %s", error)
    return datastore


def _last_reader(inbox: Inbox, image: str) -> str | None:
    """Return who has drawn on an image last; None if nobody has, or the database says nothing."""
    try:
        readings = inbox.store.readings(image, every=True)
    except StoreError:
        return None
    return next((one.reader for one in reversed(readings) if one.source != "rest"), None)


class VolumePaths:
    """A datastore as inference and scoring see it: paths that `CTVolume.open` takes.

    `get_image_uri` of the datastore itself is a file for download, which may have to be made first.
    """

    def __init__(self, datastore: Datastore) -> None:
        """Wrap a datastore.

        Args:
            datastore: of any kind; its `volume_path` and `content_key` are used if it has them.
        """
        self._datastore = datastore

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of an image, downloaded first from a PACS.

        Raises:
            Refusal: 404 for an unknown image.
        """
        find = getattr(self._datastore, "volume_path", self._datastore.get_image_uri)
        path = find(image_id)
        if not path:
            raise Refusal(404, f"There is no image {image_id!r}; /datastore lists them.")
        return str(path)

    def content_key(self, image_id: str) -> str | None:
        """Return a key that changes when the image is replaced under its id.

        None: the image is not on this machine. A datastore that cannot tell gives the same key for
        every content.
        """
        find = getattr(self._datastore, "content_key", lambda image_id: "")
        try:
            key = find(image_id)
        except HTTPException:  # the id is none
            return None
        return None if key is None else str(key)

    def save_label(self, *arguments: Any) -> Any:
        """Store a label in the datastore."""
        return self._datastore.save_label(*arguments)
