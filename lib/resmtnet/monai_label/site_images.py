"""The images of a site without its server: those of a folder of studies, or of a PACS."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from resmtnet.ct import CTVolume
from resmtnet.ct.series_index import SeriesIndex
from resmtnet.errors import ReadingError
from resmtnet.monai_label.pacs import Pacs
from resmtnet.monai_label.pacs_client import connect
from resmtnet.monai_label.settings import is_remote


class SiteFiles:
    """Finds the images of a folder, or fetches those of a PACS into a temporary folder."""

    def __init__(self, studies: str) -> None:
        """Connect.

        Args:
            studies: a folder, or the URL of a DICOMweb service.
        """
        self._studies = studies
        self._fetched = Path(tempfile.mkdtemp(prefix="resmtnet-"))
        atexit.register(shutil.rmtree, self._fetched, ignore_errors=True)
        self.pacs = Pacs(connect(studies)) if is_remote(studies) else None

    def volume(self, image: str) -> Path:
        """Return the folder of a DICOM series.

        Raises:
            ReadingError: of field "image": there is no such series.
        """
        if self.pacs is not None:
            return self._fetch(image, self.pacs)
        index = SeriesIndex(Path(self._studies))
        index.refresh()
        file = index.series.get(image)
        if file is None:
            raise ReadingError(
                "image", f"is {image!r}; there is no DICOM series of this UID in {self._studies}"
            )
        return file if file.is_dir() else file.parent

    def open(self, volume: Path) -> CTVolume:
        """Open a CT."""
        return CTVolume.open(volume)

    def content_key(self, image: str) -> str | None:
        """Return None: all answers for an image count."""
        return None

    def _fetch(self, image: str, pacs: Pacs) -> Path:
        folder = self._fetched / image
        if folder.is_dir():
            return folder
        found = pacs.series(SeriesInstanceUID=image)
        if not found:
            raise ReadingError("image", f"is {image!r}; the PACS has no such series")
        folder.mkdir()
        for number, dataset in enumerate(pacs.fetch_series(found[0])):
            dataset.save_as(folder / f"{number:05}.dcm", write_like_original=False)
        return folder
