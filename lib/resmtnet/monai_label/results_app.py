"""The part of the app that keeps results in the PACS: what is stored when, and read back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from monailabel.interfaces.datastore import Datastore

from resmtnet.errors import InputError, PacsError
from resmtnet.monai_label.dicom_node import DicomNode
from resmtnet.monai_label.dicomweb import DicomWebDatastore
from resmtnet.monai_label.infer import InferResult
from resmtnet.monai_label.labels import Submissions
from resmtnet.monai_label.pacs import Pacs
from resmtnet.monai_label.pacs_inbox import PacsInbox, Poller
from resmtnet.monai_label.pacs_results import PacsResults
from resmtnet.monai_label.request import InferRequest
from resmtnet.monai_label.settings import AppSettings
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import Reading

logger = logging.getLogger(__name__)

FROM_PACS = ("dicom_sr", "dicom_seg")


class ResultsInPacs:
    """Stores in the background, one after the other, so that no reader waits for the PACS."""

    def __init__(self, datastore: DicomWebDatastore, inbox: Inbox, settings: AppSettings) -> None:
        """Connect the PACS of the datastore.

        Args:
            datastore: of the PACS.
            inbox: the readings.
            settings: what is stored when, and where.
        """
        node = (
            DicomNode.parse(settings.results_node, "results_node")
            if settings.results_node
            else None
        )
        self.results = PacsResults(Pacs(datastore._client, node), inbox)
        self.inbox = PacsInbox(self.results)
        self.last_error: str | None = None
        """Why the last result was not stored; None if it was."""
        self._when = settings.store_results
        self._queue = ThreadPoolExecutor(1, "pacs-store")
        if settings.poll_s:
            Poller(self.inbox, settings.poll_s)

    def on_answer(self, request: InferRequest, answer: InferResult) -> None:
        """Store what the model answered to a click, if the settings say so."""
        if self._when == "on_infer" and request.image_id and request.points_ijk:
            image, model = request.image_id, answer.by.model.info
            findings = list(answer.findings)
            self._later(lambda: self.results.store_findings(image, findings, model))

    def on_readings(self, readings: list[Reading]) -> None:
        """Store what a reader has said, if the settings say so; not what came from the PACS."""
        if self._when != "on_submit":
            return
        said = {(r.image, r.reader) for r in readings if r.source not in FROM_PACS}
        for image, reader in sorted(said):
            self._later(lambda i=image, r=reader: self.results.store_readings(i, r))  # type: ignore[misc]

    def wait(self) -> None:
        """Wait until everything that was asked for is stored."""
        self._queue.submit(lambda: None).result()

    def _later(self, store: Callable[[], Any]) -> None:
        self._queue.submit(self._store, store)

    def _store(self, store: Callable[[], Any]) -> None:
        try:
            store()
        except (InputError, PacsError) as error:
            self.last_error = str(error)
            logger.error("A result is not stored in the PACS: %s", error)
        except Exception as error:
            self.last_error = f"{type(error).__name__}: {error}"
            logger.exception("A result is not stored in the PACS")
        else:
            self.last_error = None


def results_in_pacs(
    datastore: Datastore, submissions: Submissions, settings: AppSettings
) -> ResultsInPacs | None:
    """Connect an app with its PACS; None for a folder of studies."""
    if not isinstance(datastore, DicomWebDatastore):
        if settings.store_results != "off":
            logger.warning("--conf store_results is for a PACS: nothing is stored")
        return None
    results = ResultsInPacs(datastore, submissions.inbox, settings)
    submissions.on_answer = results.on_answer
    submissions.inbox.on_readings = results.on_readings
    # What a reader submits is stored with its SR then, a segment for each nodule.
    datastore.stores_masks = settings.store_results != "on_submit"
    return results
