"""The nodules of a comparison as an SR holds them: each keeps the tracking UID of its prior."""

from __future__ import annotations

from resmtnet.followup.compare import Comparison
from resmtnet.followup.look import place_of
from resmtnet.readings.dicom.nodule import ResultNodule, from_finding, tracking_uid_at


def nodules_with_tracking(comparison: Comparison) -> list[ResultNodule]:
    """Return the nodules of the current CT that somebody pointed at, for an SR or SEG.

    A nodule without a prior gets the UID of its own place.

    Args:
        comparison: of a prior and a current CT.
    """
    image_id = comparison.visits[1].image_id
    found = []
    for finding in comparison.current:
        if finding.source != "point":
            continue
        uid = (finding.prior or {}).get("tracking_uid")
        found.append(from_finding(finding, uid or tracking_uid_at(image_id, place_of(finding))))
    return found
