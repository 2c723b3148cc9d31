"""The state of an open case without its elements: what waits for a disk or the model is here."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.ct.measure import measure
from resmtnet.page.case import CaseNodule, mask_of_reading, nodules_of
from resmtnet.page.case_next import Following
from resmtnet.page.earlier import EarlierStudies
from resmtnet.page.images import crop_address, mask_address, whole_address
from resmtnet.page.pictures import crop_picture, to_ras
from resmtnet.page.prior_words import since
from resmtnet.page.services import Services, ToCompare
from resmtnet.readings.matching import SAME_NODULE_MM
from resmtnet.types import Json, Point

_SEARCHES = BoundedSemaphore(1)
"""A search uses all cores; searches of several readers wait for one another."""


class CaseData:
    """One case as one visitor sees it; methods wait, and are called in a thread."""

    def __init__(self, services: Services, image: str) -> None:
        """Take a case; nothing is read yet.

        Args:
            services: see there.
            image: id of the image.
        """
        self.services, self.image = services, image
        self.nodules: list[CaseNodule] = []
        self.chosen: CaseNodule | None = None
        self.hidden = False
        """Whether the answers of some nodules are hidden from a blinded reader."""
        self.searching, self.failed = False, ""
        self.comparing = ""
        """With which study the case is being compared; "" if with none."""
        self.earlier = EarlierStudies()
        """With which it may be compared, once it is known."""
        self.following = Following(services, image)
        self.searched = False
        """Whether candidates of this study were asked for by this visitor."""
        self._placed_at: list[Point] = []
        self._revision = -1
        self._sight: Any = None
        self._drawn_axes: dict[str, Json] = {}
        """Ends of the axes of masks that this reader has drawn, by the id of the reading."""

    @property
    def title(self) -> str:
        """The id of the study, shortened in the middle where it is a UID."""
        return self.image if len(self.image) <= 30 else f"{self.image[:10]}…{self.image[-12:]}"

    def load(self) -> None:
        """Read the nodules anew; the chosen one stays chosen.

        Raises:
            ResMTNetError: the study cannot be opened.
        """
        reader = self.services.visitor.reader
        self._revision = self.services.inbox.store.revision()
        found = nodules_of(self.services, self.image)
        sight = self.services.blinding.sight(self.image, reader)
        self._sight, self.hidden = sight, not sight.whole
        if sight.whole:
            if reader and any(one.finding is not None for one in found):
                self.services.blinding.show(self.image, reader)
        else:
            found = [one for one in found if self._may_know(one)]
            found.sort(key=lambda one: one.centre_lps_mm)
        self.nodules = found
        self._measure_drawn()
        if self.chosen is not None:
            self.chosen = self.nearest(self.chosen.centre_lps_mm, SAME_NODULE_MM)

    def _measure_drawn(self) -> None:
        """Measure the masks that this reader has drawn, once each."""
        for said in (one.said for one in self.nodules):
            if said is not None and said.mask is not None and said.id not in self._drawn_axes:
                measured = measure(*mask_of_reading(self.services, said.mask))
                ends = measured and (
                    measured.long_axis_ends_lps_mm,
                    measured.short_axis_ends_lps_mm,
                )
                self._drawn_axes[said.id] = _axes(ends or (None, None)) or {}

    def _may_know(self, nodule: CaseNodule) -> bool:
        """Whether a blinded reader may know that there is something: they found it themselves."""
        placed = any(
            math.dist(nodule.centre_lps_mm, place) <= 2 * SAME_NODULE_MM
            for place in self._placed_at
        )
        return placed or nodule.mine is not None or self._sight.shows_at(nodule.centre_lps_mm)

    def is_hidden(self, nodule: CaseNodule) -> bool:
        """Whether what the model and others say of a nodule is hidden."""
        return self.hidden and not self._sight.shows_at(nodule.centre_lps_mm)

    def seen(self, nodule: CaseNodule) -> bool | None:
        """Return whether the reader had seen the answer when they say something now."""
        reader = self.services.visitor.reader
        return self.services.blinding.seen(self.image, reader, nodule.centre_lps_mm)

    def opened(self) -> None:
        """Note that this reader reads the study now."""
        if self.services.visitor.reader:
            self.services.open_for(self.image, self.services.visitor.reader)

    def has_news(self) -> bool:
        """Whether a reading has arrived since the last look."""
        return self.services.inbox.store.revision() != self._revision

    def needs_search(self) -> bool:
        """Whether the model was never asked about this study, and its answer may be shown."""
        return (
            not self.hidden
            and not self.searched
            and not any(one.finding is not None for one in self.nodules)
        )

    def search_now(self) -> None:
        """Ask for candidates of the whole CT."""
        with _SEARCHES:
            self.services.search(self.image, self.services.visitor.reader)
        self.searched = True

    def click_now(self, place_lps_mm: Point) -> None:
        """Ask about a place; a blinded reader is not given the answer."""
        client = "" if self.hidden else self.services.visitor.reader
        self._placed_at.append(place_lps_mm)
        self.services.click(self.image, [place_lps_mm], client)

    def compare_now(self, prior: Json) -> None:
        """Ask about all nodules again, with an earlier CT.

        Args:
            prior: field of a request, see `earlier.prior_asked`.

        Raises:
            InputError: of the comparison, such as two patients, or no lungs.
        """
        found = [one.finding for one in self.nodules if one.finding is not None]
        screening = any(
            str(one.guidelines.get("context") or "").startswith("screening") for one in found
        )
        what = ToCompare(
            prior,
            tuple(one.centre_lps_mm for one in found if one.source != "candidate"),
            tuple(one.centre_lps_mm for one in found if one.source == "candidate"),
            "screening_followup" if screening else None,
        )
        self.services.compare(self.image, what, self.services.visitor.reader)

    def can_compare(self) -> bool:
        """Whether there is an answer to compare with an earlier CT, and it may be shown."""
        return not self.hidden and any(one.finding is not None for one in self.nodules)

    def acceptable(self) -> list[CaseNodule]:
        """Return the nodules with an answer that this reader has said nothing of."""
        return [one for one in self.nodules if one.finding is not None and one.said is None]

    def nearest(self, place_lps_mm: Point, most_mm: float = math.inf) -> CaseNodule | None:
        """Return the nodule nearest to a place."""
        far = [
            (math.dist(one.centre_lps_mm, place_lps_mm), n) for n, one in enumerate(self.nodules)
        ]
        if not far or min(far)[0] > most_mm:
            return None
        return self.nodules[min(far)[1]]

    def mask_of_bits(self, nodule: CaseNodule, bits: str) -> tuple[NDArray[np.uint8], Geometry]:
        """Return what was drawn in the crop around a nodule: mask [k, j, i] and grid, cut to it."""
        picture = crop_picture(self.services.open_ct(self.image), _rounded(nodule.centre_lps_mm))
        mask = picture.unpack(base64.b64decode(bits, validate=True))
        kji = np.argwhere(mask)
        if not len(kji):
            return mask[:1, :1, :1], picture.geometry.sub((0, 0, 0), (1, 1, 1))
        low, high = kji.min(0), kji.max(0) + 1
        cut = mask[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
        return cut, picture.geometry.sub(low[::-1].tolist(), cut.shape[::-1])

    # -- what the viewer draws -------------------------------------------------------------------

    def spec(self, nodule: CaseNodule | None) -> Json:
        """Return what the viewer shows; see `show` in viewer.js.

        Args:
            nodule: in the middle of the crop; None: the whole CT.
        """
        if nodule is None:
            at = self.chosen
            return {
                "key": "whole",
                "url": whole_address(self.image),
                "mask": None,
                "at": to_ras(at.centre_lps_mm) if at else None,
                "axes": None,
                "points": self.points(None),
            }
        centre = nodule.centre_lps_mm
        said, shown = nodule.said, not self.is_hidden(nodule)
        whose = "mine" if said is not None and said.mask else "model"
        drawn = whose == "mine" or (shown and nodule.mask() is not None)
        axes = self._axes_of(nodule, whose) if shown or whose == "mine" else None
        x, y, z = to_ras(centre)
        return {
            "key": f"nodule {nodule.name}",
            "url": crop_address(self.image, centre),
            "mask": mask_address(self.image, centre, whose) if drawn else None,
            "at": (x, y, axes["long"][0][2] if axes else z),  # the slice in which it is longest
            "axes": axes,
            "points": self.points(nodule),
        }

    def prior_spec(self, nodule: CaseNodule) -> Json | None:
        """Return how the viewer shows the place of a nodule in the earlier CT; None without."""
        prior = nodule.finding.prior if nodule.finding else None
        if not prior or not prior["place_lps_mm"]:
            return None
        x, y, z = (float(mm) for mm in prior["place_lps_mm"])
        return {
            "key": f"prior {nodule.name}",
            "url": crop_address(str(prior["image_id"]), (x, y, z)),
            "mask": None,
            "at": to_ras((x, y, z)),
            "axes": None,
            "points": [],
            "hint": f"Earlier CT: {since(prior)}",
        }

    def points(self, in_middle: CaseNodule | None) -> list[Json]:
        """Return where the nodules are, for marks with their names; none for one in the middle."""
        return [
            {
                "at": to_ras(one.centre_lps_mm),
                "name": one.name,
                "kind": "candidate" if one.is_candidate else "nodule",
            }
            for one in self.nodules
            if one is not in_middle
        ]

    def _axes_of(self, nodule: CaseNodule, whose: str) -> Json | None:
        finding, said = nodule.finding, nodule.said
        if whose == "mine" and said is not None:
            return self._drawn_axes.get(said.id) or None
        if finding is None:
            return None
        return _axes((finding.long_axis_lps_mm, finding.short_axis_lps_mm))


def _axes(ends: Sequence[tuple[Point, Point] | None]) -> Json | None:
    """Ends of long and short axis as the viewer takes them; None unless both are known."""
    if None in ends:
        return None
    pairs = zip(("long", "short"), ends, strict=True)
    return {name: [to_ras(end) for end in pair or ()] for name, pair in pairs}


def _rounded(point: Point) -> Point:
    """The place as its address names it, so that the crop is the same."""
    x, y, z = (float(f"{mm:.3f}") for mm in point)
    return x, y, z
