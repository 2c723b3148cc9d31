"""A case as the page shows it: its nodules, what the model says of each, and what readers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.findings import Finding
from resmtnet.page.services import Services
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.matching import distance_in_reach_mm, radius_mm
from resmtnet.readings.record import REPEAT, MaskReference, Reading
from resmtnet.types import Point

WITHDRAWN = "withdrawn on the review page"
"""Comment of a reading that takes back what its reader had said of a nodule."""


@dataclass(frozen=True, eq=False)
class CaseNodule:
    """One nodule of a case: known to the model, to readers, or to both."""

    name: str
    """Such as "1"; of this visit alone."""
    centre_lps_mm: Point
    finding: Finding | None
    """What the served version says; None where it was not asked."""
    known: AnsweredNodule | None
    """The same, as a reading of it refers to it."""
    grid: Geometry
    """Of the CT."""
    mine: Reading | None = None
    """What this reader says after all corrections."""
    others: tuple[Reading, ...] = ()
    """What other readers say."""

    @property
    def nodule_id(self) -> str | None:
        """Its id in the readings; None where nobody has read it."""
        read = [self.mine] if self.mine else list(self.others)
        return read[0].nodule if read else None

    @property
    def is_candidate(self) -> bool:
        """Whether only the search proposes it, and nobody has confirmed it."""
        searched = self.finding is not None and self.finding.source == "candidate"
        return searched and self.said is None

    @property
    def said(self) -> Reading | None:
        """What this reader says, unless it was withdrawn."""
        return None if self.mine is None or self.mine.excluded else self.mine

    @property
    def score(self) -> float:
        """What the list is sorted by: the model's malignancy score, 0 without one."""
        return self.finding.malignancy.score if self.finding else 0.0

    def mask(self) -> tuple[NDArray[np.uint8], Geometry] | None:
        """Return the model's mask [k, j, i] and its grid."""
        found = self.finding
        if found is None or found.mask is None or found.start_ijk is None:
            return None
        return found.mask, self.grid.sub(found.start_ijk, found.mask.shape[::-1])


def nodules_of(services: Services, image: str) -> list[CaseNodule]:
    """Return the nodules of a case, the most suspicious first.

    Answers of other versions of the model than the served one are left out. It reads the database
    and the answers: to be called in a thread.

    Args:
        services: see there.
        image: id of the image.
    """
    inbox, sha256 = services.inbox, services.now().model.info.sha256
    grid = services.open_ct(image).geometry
    content = inbox.images.content_key(image)
    given = [one for one in inbox.answers.given(image, content) if one.model_sha256 == sha256]
    found: list[CaseNodule] = []
    answered = [(answer, finding) for answer in given for finding in answer.findings]
    answered.sort(key=lambda pair: pair[1].prior is None)  # what was compared says more
    for answer, finding in answered:
        centre = finding.centroid_lps_mm or finding.centre_lps_mm
        if _near(centre, finding, found) is None:
            known = _known(finding, answer)
            found.append(CaseNodule("", centre, finding, known, grid))
    readings = [one for one in inbox.store.readings(image) if one.purpose != REPEAT]
    found = _with_readings(found, readings, services.visitor.reader, grid)
    found.sort(key=lambda one: -one.score)
    return [_renamed(nodule, str(n)) for n, nodule in enumerate(found, start=1)]


def mask_of_reading(services: Services, mask: MaskReference) -> tuple[NDArray[np.uint8], Geometry]:
    """Return the mask that a reader has drawn, [k, j, i], and its grid.

    Raises:
        VolumeError: it cannot be read.
    """
    label_map = read_label_map(services.inbox.store.masks / mask.file)
    return (label_map.mask == mask.value).astype(np.uint8), label_map.geometry


def _near(centre: Point, finding: Finding, found: Sequence[CaseNodule]) -> CaseNodule | None:
    """The nodule in the list that a finding is of, by the rule of `readings.matching`."""
    for nodule in found:
        assert nodule.finding is not None
        radii = (_radius(nodule.finding), _radius(finding))
        if distance_in_reach_mm(centre, [nodule.centre_lps_mm], *radii) is not None:
            return nodule
    return None


def _radius(finding: Finding) -> float:
    return radius_mm(
        {n: getattr(finding.size, n) for n in ("long_axis_mm", "mean_diameter_mm")}
        | {"equivalent_diameter_mm": finding.size.equivalent_diameter_mm}
    )


def _known(finding: Finding, answer: GivenAnswer) -> AnsweredNodule:
    grid = None
    if finding.mask is not None and finding.start_ijk is not None:
        grid = answer.geometry.sub(finding.start_ijk, finding.mask.shape[::-1])
    return AnsweredNodule(
        finding.to_json(),
        answer.model_version,
        answer.model_sha256,
        finding.mask,
        grid,
        seen=None,
    )


def _with_readings(
    found: list[CaseNodule], readings: Sequence[Reading], reader: str, grid: Geometry
) -> list[CaseNodule]:
    """Put each reading to the nodule it is of; a nodule that no answer knows is added."""
    by_nodule: dict[str | None, list[Reading]] = {}
    for reading in readings:
        by_nodule.setdefault(reading.nodule, []).append(reading)
    left, done = list(found), []
    for of_one in by_nodule.values():
        centre = next(r.centre_lps_mm for r in of_one if r.centre_lps_mm is not None)
        near = _nearest(centre, of_one, left)
        if near is not None:
            left.remove(near)
        mine = [r for r in of_one if r.reader == reader and r.evidence == "impression"]
        mine = mine or [r for r in of_one if r.reader == reader]
        others = tuple(r for r in of_one if r.reader != reader and not r.excluded)
        if near is None and not others and all(r.excluded for r in mine):
            continue  # added by hand, and withdrawn
        done.append(
            CaseNodule(
                "",
                near.centre_lps_mm if near else centre,
                near.finding if near else None,
                near.known if near else None,
                grid,
                mine[-1] if mine else None,
                others,
            )
        )
    return [*done, *left]


def _nearest(
    centre: Point, readings: Sequence[Reading], nodules: Sequence[CaseNodule]
) -> CaseNodule | None:
    radius = max(radius_mm(r.sizes) for r in readings)
    reached = []
    for n, nodule in enumerate(nodules):
        assert nodule.finding is not None
        centres = [nodule.centre_lps_mm, nodule.finding.centre_lps_mm]
        distance = distance_in_reach_mm(centre, centres, _radius(nodule.finding), radius)
        if distance is not None:
            reached.append((distance, n))
    return nodules[min(reached)[1]] if reached else None


def _renamed(nodule: CaseNodule, name: str) -> CaseNodule:
    return CaseNodule(**{**vars(nodule), "name": name})
