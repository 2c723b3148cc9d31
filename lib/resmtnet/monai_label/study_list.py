"""The studies of a datastore for a list: a name that a reader knows, and a date; none is opened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from pydicom.dataset import Dataset

from resmtnet.monai_label.datastore import SERIES_EXTENSION, StudiesDatastore
from resmtnet.monai_label.dicomweb import DicomWebDatastore
from resmtnet.readings.patients import pseudonym

logger = logging.getLogger(__name__)

_PACS_FIELDS = ["StudyDate", "PatientID", "SeriesDescription"]
PACS_AGAIN_S = 30.0
"""After which the PACS is asked again for names and dates; the ids are asked for each time."""


@dataclass(frozen=True)
class ListedStudy:
    """One study of a list."""

    image: str
    name: str
    """File or folder within the studies; of a PACS the PatientID and the series' description."""
    date: str
    """Of the study (PACS), or when it came (folder), as 2026-01-31; "" where it is not known."""
    patient: str | None = None
    """Pseudonym (PACS); None where no PatientID is known, or no file was opened for it."""


class StudyList:
    """Lists the studies of a folder or a PACS."""

    def __init__(self, datastore: Callable[[], Datastore]) -> None:
        """Take a datastore.

        Args:
            datastore: returns it; called with the first list.
        """
        self._datastore = datastore
        self._told: dict[str, ListedStudy] = {}
        self._told_s: float | None = None

    def __call__(self) -> list[ListedStudy]:
        """Return all studies.

        Raises:
            Refusal: 502, the PACS does not answer.
        """
        datastore = self._datastore()
        images = datastore.list_images()
        if isinstance(datastore, StudiesDatastore):
            return [_of_folder(datastore, image) for image in images]
        if isinstance(datastore, DicomWebDatastore):
            self._ask_pacs(datastore, set(images))
        return [self._told.get(image) or ListedStudy(image, image, "") for image in images]

    def _ask_pacs(self, datastore: DicomWebDatastore, images: set[str]) -> None:
        now = time.monotonic()
        if self._told_s is not None and now - self._told_s < PACS_AGAIN_S:
            return
        self._told_s = now
        try:
            found = datastore._client.search_for_series(
                search_filters=datastore._search_filter, fields=_PACS_FIELDS
            )
        except Exception as error:  # of requests or of the PACS: ids alone are listed
            logger.warning("Names and dates of the studies are not known: %s", error)
            return
        listed = [_of_pacs(Dataset.from_json(one)) for one in found]
        self._told |= {one.image: one for one in listed if one.image in images}


def _of_folder(datastore: StudiesDatastore, image: str) -> ListedStudy:
    info: dict[str, Any] = {}
    name = image
    known = datastore._datastore.objects.get(image)
    if known is not None:
        info = known.image.info
        name = datastore._filename(image, known.image.ext)
        if known.image.ext == SERIES_EXTENSION:
            name = _within(Path(name).parent, Path(datastore._datastore.image_path())) or image
    return ListedStudy(image, name, _day(info.get("ts")))


def _within(folder: Path, root: Path) -> str:
    """The place of a folder within the studies; "" for the folder of the studies itself."""
    try:
        place = folder.relative_to(root).as_posix()
    except ValueError:
        return folder.name
    return "" if place == "." else place


def _of_pacs(series: Dataset) -> ListedStudy:
    patient, what = (str(series.get(key) or "") for key in ("PatientID", "SeriesDescription"))
    date = str(series.get("StudyDate") or "")
    told = ", ".join(part for part in (patient, what) if part)
    uid = str(series.SeriesInstanceUID)
    day = f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdigit() else ""
    return ListedStudy(uid, told or uid, day, pseudonym(patient))


def _day(seconds: object) -> str:
    if not isinstance(seconds, (int, float)):
        return ""
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
