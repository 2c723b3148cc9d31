"""Of whom each study is and when it was made, for the comparison with an earlier CT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from resmtnet.errors import ResMTNetError
from resmtnet.followup.visit import Visit, parse_day
from resmtnet.monai_label.study_list import ListedStudy
from resmtnet.page.earlier import EarlierStudies, OtherStudy, earlier_studies


class StudyVisits:
    """Finds the earlier CTs of a patient; from any thread."""

    def __init__(
        self, studies: Callable[[], Sequence[ListedStudy]], file_of: Callable[[str], Path] | None
    ) -> None:
        """Take the studies.

        Args:
            studies: lists them; a PACS tells PatientID and date with the list.
            file_of: returns what `CTVolume.open` takes for an image of a folder, of which the
                headers are read; None for a PACS, from which nothing is fetched for it.
        """
        self._studies, self._file_of = studies, file_of
        self._visits: dict[str, Visit] = {}
        self._lock = Lock()

    def earlier(self, image: str) -> EarlierStudies:
        """Return the studies with which an image may be compared.

        Args:
            image: id of the image.

        Raises:
            ResMTNetError: the studies cannot be listed.
        """
        every = [self._other(study) for study in self._studies()]
        this = next((one for one in every if one.image == image), OtherStudy(image, image))
        return earlier_studies(this, every)

    def _other(self, study: ListedStudy) -> OtherStudy:
        if self._file_of is None:
            day = parse_day(study.date) if study.date else None
            return OtherStudy(study.image, study.name, day, study.patient)
        visit = self._visit(study.image, self._file_of)
        return OtherStudy(study.image, study.name, visit.day, visit.patient)

    def _visit(self, image: str, file_of: Callable[[str], Path]) -> Visit:
        """What the headers of an image say; they are read once."""
        with self._lock:
            if image not in self._visits:
                try:
                    self._visits[image] = Visit.of_file(image, file_of(image))
                except (ResMTNetError, OSError):  # removed meanwhile, or no longer readable
                    return Visit(image)
            return self._visits[image]
