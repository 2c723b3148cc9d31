"""A PACS: which series a study has, storing objects (STOW-RS or C-STORE), fetching and deleting."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from requests import HTTPError, RequestException

from resmtnet.errors import PacsError
from resmtnet.monai_label.dicom_node import DicomNode
from resmtnet.monai_label.orthanc_rest import delete_from_orthanc, orthanc_url

logger = logging.getLogger(__name__)

OUR_AET = "RESMTNET"


@dataclass(frozen=True)
class SeriesEntry:
    """A series as the PACS lists it."""

    uid: str
    study_uid: str
    modality: str
    number: int
    patient_id: str


class Pacs:
    """One PACS over DICOMweb, with a DICOM node for storing where one is named."""

    def __init__(self, client: DICOMwebClient, node: DicomNode | None = None) -> None:
        """Connect.

        Args:
            client: for searching, fetching and deleting; for storing too if `node` is None.
            node: objects are sent there by C-STORE.
        """
        self._client, self._node = client, node

    def series(self, **filters: str) -> list[SeriesEntry]:
        """Return the series that fit DICOM attributes, such as StudyInstanceUID.

        Raises:
            PacsError: the PACS did not answer.
        """
        with_numbers = ["SeriesNumber", "Modality", "PatientID"]
        study = filters.pop("StudyInstanceUID", None)
        try:
            found = self._client.search_for_series(
                study_instance_uid=study, search_filters=filters or None, fields=with_numbers
            )
        except (RequestException, OSError) as error:
            raise PacsError(f"The PACS did not answer a search: {error}") from error
        return [_entry(Dataset.from_json(one), study) for one in found]

    def instances(self, entry: SeriesEntry) -> list[str]:
        """Return the SOP Instance UIDs of a series."""
        try:
            found = self._client.search_for_instances(entry.study_uid, entry.uid)
        except (RequestException, OSError) as error:
            raise PacsError(f"The PACS did not answer a search: {error}") from error
        return [str(Dataset.from_json(one).SOPInstanceUID) for one in found]

    def fetch(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> Dataset:
        """Return an object with its pixels.

        Raises:
            PacsError: the PACS does not have it, or did not answer.
        """
        try:
            return self._client.retrieve_instance(study_uid, series_uid, sop_instance_uid)
        except (RequestException, OSError, ValueError, InvalidDicomError) as error:
            raise PacsError(f"The PACS did not give {sop_instance_uid}: {error}") from error

    def fetch_series(self, entry: SeriesEntry) -> list[Dataset]:
        """Return all objects of a series.

        Raises:
            PacsError: the PACS did not answer.
        """
        try:
            return list(self._client.retrieve_series(entry.study_uid, entry.uid))
        except (RequestException, OSError, ValueError, InvalidDicomError) as error:
            raise PacsError(f"The PACS did not give the series {entry.uid}: {error}") from error

    def store(self, datasets: Sequence[Dataset]) -> None:
        """Store objects.

        Raises:
            PacsError: it refused one.
        """
        if self._node is not None:
            send(self._node, datasets)
            return
        for dataset in datasets:
            try:
                reply = self._client.store_instances([dataset])
            except HTTPError as error:
                raise PacsError(
                    f"The PACS refused the {dataset.Modality}: {_why(error)}"
                ) from error
            except (RequestException, OSError) as error:
                raise PacsError(f"The PACS did not answer: {error}") from error
            failed = reply.get("FailedSOPSequence")
            if failed:
                reason = int(failed[0].get("FailureReason", 0))
                raise PacsError(f"The PACS refused the {dataset.Modality}: failure {reason:#06x}")

    def delete(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> bool:
        """Delete an object, over DICOMweb or else over the REST interface of an Orthanc.

        Returns:
            False where the PACS does not allow either.
        """
        try:
            self._client.delete_instance(study_uid, series_uid, sop_instance_uid)
        except (RequestException, OSError) as error:
            logger.info("DICOMweb does not delete %s: %s", sop_instance_uid, error)
        else:
            return True
        session = self._client._session
        address = orthanc_url(session, str(self._client.base_url))
        return address is not None and delete_from_orthanc(session, address, sop_instance_uid)


def send(node: DicomNode, datasets: Sequence[Dataset]) -> None:
    """Send objects by C-STORE.

    A warning (PS3.4 B.2.3: the node has coerced an element, for example) means that the object is
    stored.

    Raises:
        PacsError: no association, no way to send such an object, or a status of failure.
    """
    from pynetdicom import AE
    from pynetdicom.status import STATUS_WARNING, code_to_category

    entity = AE(ae_title=OUR_AET)
    for uid in {dataset.SOPClassUID for dataset in datasets}:
        entity.add_requested_context(uid)
    association = entity.associate(node.host, node.port, ae_title=node.aet)
    if not association.is_established:
        raise PacsError(
            f"{node.aet}@{node.host}:{node.port} accepts no association from {OUR_AET}."
        )
    try:
        for dataset in datasets:
            try:
                status = association.send_c_store(dataset)
            except ValueError as error:  # the node takes no such object, or not as it is encoded
                raise PacsError(f"{node.aet} takes no {dataset.Modality}: {error}") from error
            code = int(status.Status) if status else None
            if code is None:
                raise PacsError(f"{node.aet} did not answer the {dataset.Modality}.")
            if code_to_category(code) == STATUS_WARNING:
                logger.warning(
                    "%s stored the %s with status %#06x", node.aet, dataset.Modality, code
                )
            elif code != 0:
                raise PacsError(f"{node.aet} refused the {dataset.Modality}: status {code:#06x}.")
    finally:
        association.release()


def referenced_series(dataset: Dataset) -> Iterator[str]:
    """Give the series that a SEG or SR refers to."""
    for item in dataset.get("ReferencedSeriesSequence") or ():
        yield str(item.SeriesInstanceUID)
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            yield str(series.SeriesInstanceUID)


def _entry(found: Dataset, study_uid: str | None) -> SeriesEntry:
    def text(name: str) -> str:
        value: Any = found.get(name)
        return "" if value is None else str(value)

    number = text("SeriesNumber")
    return SeriesEntry(
        text("SeriesInstanceUID"),
        text("StudyInstanceUID") or study_uid or "",
        text("Modality"),
        int(number) if number.lstrip("-").isdigit() else 0,
        text("PatientID"),
    )


def _why(error: HTTPError) -> str:
    status = "" if error.response is None else f"status {error.response.status_code}"
    if "409" in status:
        return f"{status}; often the patient's name or another attribute of the CT is malformed"
    return status or str(error)
