"""The report text of one image, from its readings."""

from __future__ import annotations

from resmtnet.errors import InputError
from resmtnet.readings.dicom.confirmed import confirmed_nodules
from resmtnet.readings.dicom.report_text import report_text
from resmtnet.readings.dicom.results_log import SeriesResults
from resmtnet.readings.inbox import Inbox


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
    last = [one for one in known if one.answer == 0]
    candidates = sum(one.finding["source"] == "candidate" for one in last)
    return report_text(nodules, candidates)
