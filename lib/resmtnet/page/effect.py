"""What the last training changed for the cases just read: the answers before and after it.

These cases have trained the version, or judged it: they show what it has learnt, not how good it
is on others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resmtnet.active.study_scores import ScoredStudy
from resmtnet.evaluation.agreement.measures import number, said_rating
from resmtnet.readings.answer_glance import AnswerGlances
from resmtnet.readings.matching import distance_in_reach_mm, radius_mm
from resmtnet.readings.record import Reading
from resmtnet.types import Json, Point

MOST_CASES = 20
NEARER = 0.05
"""Smaller changes of the score are told as none."""


@dataclass(frozen=True)
class Said:
    """What a version says of a nodule, in short."""

    score: float | None
    """Malignancy score, 1 to 5."""
    probability_malignant: float | None
    long_axis_mm: float | None = None

    @classmethod
    def of(cls, finding: Json) -> Said:
        """Take it from an entry of "nodules" in resmtnet.findings/1."""
        return cls(
            number(finding, "malignancy", "score"),
            number(finding, "class", "probabilities", "malignant"),
            number(finding, "size", "long_axis_mm"),
        )


@dataclass(frozen=True)
class Effect:
    """One nodule that was read, and what was answered before and after the training."""

    image: str
    centre_lps_mm: Point
    reader: str
    class_name: str | None
    rating: float | None
    """The reader's, 1 to 5; None where none was given."""
    long_axis_mm: float | None
    """The reader's."""
    before: Said
    after: Said | None
    """None: the version that is served now has not been asked about this nodule yet."""

    @property
    def nearer(self) -> bool | None:
        """Whether the score came nearer to the reader's; None where it did not move, or unknown."""
        if self.rating is None or self.after is None:
            return None
        if self.before.score is None or self.after.score is None:
            return None
        change = abs(self.after.score - self.rating) - abs(self.before.score - self.rating)
        return None if abs(change) < NEARER else change < 0


@dataclass(frozen=True)
class Stored:
    """Where the answers of the version that is served now are stored."""

    sha256: str
    answers: AnswerGlances
    score: Callable[[str], ScoredStudy | None]

    def at(self, image: str, centre_lps_mm: Point) -> Said | None:
        """Return what the version has answered at a place; None where it was not asked."""
        for sha256, nodules in self.answers.answers(image):
            if sha256 == self.sha256:
                found = _nearest(nodules, centre_lps_mm)
                if found is not None:
                    return Said.of(found)
        study = self.score(image)
        return None if study is None else _scored_at(study, centre_lps_mm)


def effects(
    readings: Iterable[Reading], now: Stored, hidden: Callable[[str], bool] = lambda image: False
) -> list[Effect]:
    """Return the nodules that were read last, the latest first, with what changed for each.

    Args:
        readings: what stands, in order of arrival.
        now: what the served version has answered.
        hidden: whether an image must not be told of.
    """
    found: list[Effect] = []
    for one in reversed([*readings]):
        if one.answered is None or one.centre_lps_mm is None or one.class_name == "not_a_nodule":
            continue
        if not one.trains or one.answered.model_sha256 == now.sha256 or hidden(one.image):
            continue
        found.append(
            Effect(
                one.image,
                one.centre_lps_mm,
                one.reader,
                one.class_name,
                said_rating(one),
                one.sizes.get("long_axis_mm"),
                Said.of(one.answered.finding),
                now.at(one.image, one.centre_lps_mm),
            )
        )
        if len(found) == MOST_CASES:
            break
    return found


def summary(found: Sequence[Effect]) -> str:
    """Say what changed, in a sentence or two; "" where nothing was read."""
    if not found:
        return ""
    nearer = [one.nearer for one in found]
    asked = sum(one.after is not None for one in found)
    if not asked:
        return "The version that is served now has not been asked about these nodules yet."
    parts = [
        f"{nearer.count(True)} nearer to the reader",
        f"{nearer.count(False)} farther",
        f"{asked - nearer.count(True) - nearer.count(False)} without a difference to tell",
    ]
    told = f"Malignancy score of {asked} nodules: {', '.join(parts)}."
    if asked < len(found):
        told += f" {len(found) - asked} have not been asked about yet."
    return told


def _nearest(nodules: Sequence[Mapping[str, Any]], at: Point) -> Json | None:
    """Return the finding that a place is of, the nearest one."""
    reached = []
    for n, one in enumerate(nodules):
        centre = tuple(float(mm) for mm in one["centre_lps_mm"])
        distance = distance_in_reach_mm(at, [centre], radius_mm(one.get("size") or {}))  # type: ignore[list-item]
        if distance is not None:
            reached.append((distance, n))
    return dict(nodules[min(reached)[1]]) if reached else None


def _scored_at(study: ScoredStudy, at: Point) -> Said | None:
    centres = [(float(x), float(y), float(z)) for x, y, z in study.centres_lps_mm]
    reached = [
        (distance, n)
        for n, centre in enumerate(centres)
        if (distance := distance_in_reach_mm(at, [centre])) is not None
    ]
    if not reached:
        return None
    n = min(reached)[1]
    return Said(float(study.score[n]), float(study.probability_malignant[n]))
