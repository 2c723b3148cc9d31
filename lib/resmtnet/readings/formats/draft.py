"""What the file of a viewer says of each nodule: readings that have no image and no reader yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.readings.record import Answered, Reading
from resmtnet.types import Json, Point


@dataclass(frozen=True, eq=False)
class AnsweredNodule:
    """A nodule that a model had answered for the image."""

    finding: Json
    """The entry of "nodules" in resmtnet.findings/1."""
    model_version: str
    model_sha256: str
    mask: NDArray[np.uint8] | None = None
    """[k, j, i], as it was drawn: without the voxels that another class took."""
    grid: Geometry | None = None
    """Of the mask's voxels."""
    seen: bool | None = None
    """Whether the reader was given this answer; None = not known."""
    answer: int = 0
    """Which answer it is of; 0 is the latest."""
    expected: bool = False
    """Whether it is of the last answer that the reader was given: if it is missing from what the
    reader sends, the reader has removed it."""

    @property
    def id(self) -> str:
        """Its name in the answer, such as N1."""
        return str(self.finding["id"])

    @property
    def class_name(self) -> str:
        """The class that the model gave it."""
        return str(self.finding["class"]["name"])

    @property
    def centre_lps_mm(self) -> Point:
        """Where its point is drawn: the centroid of the mask, else the point asked for."""
        x, y, z = self.finding.get("centroid_lps_mm") or self.finding["centre_lps_mm"]
        return float(x), float(y), float(z)

    @property
    def asked_lps_mm(self) -> Point:
        """The point that was asked for: a click or a candidate."""
        x, y, z = self.finding["centre_lps_mm"]
        return float(x), float(y), float(z)

    @property
    def sizes(self) -> Mapping[str, float | None]:
        """What the model measured, mm and mm3 by name."""
        sizes: Mapping[str, float | None] = self.finding["size"]
        return sizes

    @property
    def answered(self) -> Answered:
        """What a reading of it answers."""
        return Answered(self.model_version, self.model_sha256, self.finding, self.seen)


@dataclass(frozen=True, eq=False)
class DraftReading:
    """A reading without its image and reader; see `Reading` for the fields they share."""

    name: str
    """What the nodule is called in the reply: N1, or the name that the reader gave it."""
    centre_lps_mm: Point
    class_name: str | None = None
    malignancy: int | None = None
    sizes: Mapping[str, float] = field(default_factory=dict)
    characteristics: Mapping[str, int] = field(default_factory=dict)
    evidence: str = "impression"
    comment: str = ""
    acceptance: str = "single"
    known: AnsweredNodule | None = None
    mask: NDArray[np.uint8] | None = None
    """[k, j, i] of this nodule alone, where the reader drew or changed it."""
    grid: Geometry | None = None
    """Of the mask's voxels."""
    unchanged: bool = False
    """The reader left everything as the model had answered it."""
    agreed: bool = False
    """The reader said so in words; without them what is left as it was says nothing."""

    @property
    def says_something(self) -> bool:
        """Whether a reader said anything of the nodule beyond its place."""
        words = (self.class_name, self.malignancy, self.sizes, self.characteristics, self.comment)
        return any(words)

    def reading(self, image: str, reader: str, source: str, **others: Any) -> Reading:
        """The reading.

        Args:
            image: id of the image.
            reader: who said it.
            source: the way in.
            others: further fields of it, such as mask and study_patient.
        """
        return Reading(
            image=image,
            reader=reader,
            source=source,
            centre_lps_mm=self.centre_lps_mm,
            class_name=self.class_name,
            malignancy=self.malignancy,
            sizes={name: round(value, 3) for name, value in self.sizes.items()},
            characteristics=dict(self.characteristics),
            evidence=self.evidence,
            comment=self.comment,
            acceptance=self.acceptance,
            answered=None if self.known is None else self.known.answered,
            **others,
        )


@dataclass(frozen=True)
class Problem:
    """A part of a file of which no reading was made."""

    what: str
    """The nodule, segment, markup or field."""
    why: str
    """What is wrong with it, and what to do."""


@dataclass(frozen=True)
class ParsedLabel:
    """What a whole file says, and what of it could not be understood."""

    drafts: tuple[DraftReading, ...] = ()
    not_understood: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def accepted_at_once(drafts: Sequence[DraftReading]) -> tuple[DraftReading, ...]:
    """Mark what was accepted with one word as accepted in bulk, where that is several nodules.

    Args:
        drafts: of one segment; a reader who accepts it has not looked at each of its nodules.
    """
    together = sum(draft.agreed and draft.unchanged for draft in drafts)
    return tuple(
        replace(draft, acceptance="bulk")
        if draft.agreed and draft.unchanged and together > 1
        else draft
        for draft in drafts
    )


def removed(known: AnsweredNodule) -> Problem:
    """Return the problem of a nodule that is missing from what a reader sends."""
    return Problem(
        known.id,
        "is missing; nothing is recorded of it. If it is not a nodule, send it with the name "
        f"'{known.id} not a nodule'.",
    )
