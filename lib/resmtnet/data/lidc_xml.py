"""Reads the annotations of the LIDC readers from the XML files of LIDC-IDRI.

References:
    LIDC XML documentation, The Cancer Imaging Archive; Armato et al., Med Phys 38 (2011).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.data.contours import Annotation, Contour, Scan
from resmtnet.errors import ArchiveError

_ROOT = "LidcReadMessage"
_HEAD_BYTES = 8192
"""The header of a file, with the UID of the series, is well within this."""
_SERIES_UID = re.compile(rb"<(?:\w+:)?SeriesInstanceUid>\s*([0-9.]+)\s*<", re.IGNORECASE)


class LidcXml:
    """A folder of LIDC XML files, each parsed when its series is asked for."""

    def __init__(self, folder: Path) -> None:
        """Index a folder and its subfolders.

        Raises:
            ArchiveError: there is none, or two files annotate one series.
        """
        if not folder.is_dir():
            raise ArchiveError(f"{folder} is no folder: give the folder of the LIDC XML files")
        self._files: dict[str, Path] = {}
        for path in sorted(folder.rglob("*.xml")):
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            found = _SERIES_UID.search(head)
            if _ROOT.encode() not in head or found is None:
                continue  # the radiographs of IDRI, and other XML
            uid = found[1].decode()
            if uid in self._files:
                raise ArchiveError(
                    f"{self._files[uid]} and {path} both annotate the series {uid}; keep one"
                )
            self._files[uid] = path
        if not self._files:
            raise ArchiveError(f"{folder} holds no XML file of LIDC CT readings ({_ROOT})")

    def __contains__(self, series_uid: str) -> bool:
        return series_uid in self._files

    def scan(self, series_uid: str) -> Scan:
        """Return a series with what its readers marked as nodules of 3 mm and more.

        A nodule without ratings (smaller than 3 mm) is left out, and so is a contour of a single
        point, as pylidc does.

        Raises:
            ArchiveError: no file annotates the series, or it cannot be read.
        """
        path = self._files.get(series_uid)
        if path is None:
            raise ArchiveError(f"no XML file annotates the series {series_uid}")
        try:
            root = ElementTree.parse(path).getroot()
            annotations = tuple(_annotations(root))
        except (ElementTree.ParseError, ValueError, AttributeError) as error:
            raise ArchiveError(f"{path} cannot be read as LIDC XML: {error}") from error
        return Scan(series_uid, annotations)


def _annotations(root: ElementTree.Element) -> Iterator[Annotation]:
    for nodule in root.iterfind("{*}readingSession/{*}unblindedReadNodule"):
        ratings = {
            task.name: _rating(nodule.findtext(f"{{*}}characteristics/{{*}}{task.lidc_field}"))
            for task in LIDC_RATINGS
        }
        contours = tuple(
            contour
            for roi in nodule.iterfind("{*}roi")
            if len((contour := _contour(roi)).points_xy) > 1
        )
        if any(ratings.values()) and contours:
            yield Annotation(contours, ratings)


def _rating(text: str | None) -> int | None:
    return int(text) if text and text.strip() else None


def _contour(roi: ElementTree.Element) -> Contour:
    points = [
        (float(edge.findtext("{*}xCoord") or ""), float(edge.findtext("{*}yCoord") or ""))
        for edge in roi.iterfind("{*}edgeMap")
    ]
    inclusion = (roi.findtext("{*}inclusion") or "TRUE").strip().upper() == "TRUE"
    height_mm = float(roi.findtext("{*}imageZposition") or "")
    return Contour(height_mm, np.array(points, np.float64).reshape(-1, 2), inclusion)
