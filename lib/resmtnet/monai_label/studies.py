"""The studies folder of a site as a datastore."""

from __future__ import annotations

import logging

from monailabel.config import settings as platform

from resmtnet.errors import StoreError
from resmtnet.monai_label.datastore import StudiesDatastore
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
        lambda: inbox.read_again(),
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
