"""The report text of one image, from its readings."""

from __future__ import annotations

from collections.abc import Sequence

from resmtnet.errors import InputError
from resmtnet.readings.dicom.confirmed import confirmed_nodules
from resmtnet.readings.dicom.report_text import report_text
from resmtnet.readings.dicom.results_log import SeriesResults
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.matching import distance_in_reach_mm, radius_mm
from resmtnet.types import Point


def report_of(inbox: Inbox, image: str, results: SeriesResults | None = None) -> str:
    """Return the text of an image; see `report_text`.

    Args:
        inbox: has the readings and the answers.
        image: id of the image.
        results: what was stored of it in a PACS, for the names of the nodules.

    Raises:
        ReadingError: there is no such image.
    """
    volume = inbox.images.volume(image)
    try:
        grid = inbox.images.open(volume).geometry
    except InputError:
        grid = None
    readings = inbox.store.readings(image)
    known = inbox.answers.known(image, None, inbox.images.content_key(image))
    nodules = confirmed_nodules(
        readings, image, results or SeriesResults(), grid, inbox.store.masks, known
    )
    places = [one.centre_lps_mm for one in nodules]
    candidates = [one for one in known if one.answer == 0 and one.finding["source"] == "candidate"]
    return report_text(nodules, sum(not _is_read(one, places) for one in candidates))


def _is_read(candidate: AnsweredNodule, places: Sequence[Point]) -> bool:
    """Whether a person has said something of a candidate: confirmed it, or denied it."""
    radius = radius_mm(candidate.sizes)
    return bool(places) and (
        distance_in_reach_mm(candidate.centre_lps_mm, places, radius) is not None
    )
