"""What a reader's SR says of each nodule, compared with what our SR had told.

A reader opens our SR in a viewer, drags the ends of the axes, changes the label, and stores the SR
as a new one. Only what differs is the reader's word; agreement has to be written ("accept").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from resmtnet.errors import InputError
from resmtnet.readings.dicom.nodule import Line, reader_words
from resmtnet.readings.dicom.results_log import ToldNodule
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_read import SrDocument, SrGroup, drawn_axes
from resmtnet.readings.dicom.sr_write import numbers_uid
from resmtnet.readings.formats.draft import AnsweredNodule, DraftReading, Problem
from resmtnet.readings.formats.label_text import DIAMETER, parse
from resmtnet.readings.matching import distance_in_reach_mm, nodule_at
from resmtnet.types import Point

UNMOVED_MM = 0.2
"""Ends that lie closer to where they were told were not dragged: SCOORD holds single precision."""
AGREED = frozenset({"accept", "accepted", "agree", "agreed"})


@dataclass(frozen=True)
class SrDraft:
    """A draft, and what it does to the model's result."""

    draft: DraftReading
    tracking_uid: str
    outcome: str
    """accepted, modified, rejected, or new."""


@dataclass(frozen=True)
class ParsedSr:
    """What a whole SR says, and what of it could not be understood."""

    drafts: tuple[SrDraft, ...] = ()
    not_understood: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def drafts_of(
    document: SrDocument,
    source: SourceSeries,
    told: Sequence[ToldNodule],
    known: Sequence[AnsweredNodule] = (),
) -> ParsedSr:
    """Read the SR of a reader.

    Args:
        document: the SR.
        source: the CT.
        told: what our SR had told, by tracking UID; see `SeriesResults.told`.
        known: further answers of models.
    """
    drafts: list[SrDraft] = []
    problems: list[Problem] = []
    warnings: list[str] = []
    of_numbers = {numbers_uid(nodule.tracking_uid) for nodule in told}
    free = list(told)
    for n, group in enumerate(document.groups, start=1):
        if group.tracking_uid in of_numbers:
            continue  # the group for reading only, which nobody can change
        what = group.comments[0] if group.comments else group.tracking_id or f"measurement {n}"
        try:
            centre, axes = _place(group, source)
        except InputError as error:
            problems.append(Problem(what, str(error)))
            continue
        nodule = _told_at(group, centre, free)
        if nodule is not None:
            free.remove(nodule)
        _read_group(group, centre, axes, nodule, known, (drafts, problems, warnings))
    return ParsedSr(tuple(drafts), tuple(problems), tuple(warnings))


def _read_group(
    group: SrGroup,
    centre: Point,
    axes: tuple[Line | None, Line | None],
    nodule: ToldNodule | None,
    others: Sequence[AnsweredNodule],
    into: tuple[list[SrDraft], list[Problem], list[str]],
) -> None:
    drafts, problems, warnings = into
    label = group.comments[0] if group.comments else ""
    words = reader_words(nodule.label if nodule else "", label)
    answered = nodule.known if nodule else nodule_at(centre, None, others)
    name = nodule.name if nodule else answered.id if answered else "a new nodule"
    agreed = words.lower().strip(" .!") in AGREED
    text = parse("" if agreed else words)
    what = f"{name}: {label!r}" if label else name
    problems += [Problem(what, problem) for problem in text.problems]
    rejected = text.class_name == "not_a_nodule"
    sizes = {} if rejected or not _moved(axes, nodule) else _sizes(axes)
    sizes |= {"mean_diameter_mm" if n == DIAMETER else n: mm for n, mm in text.sizes.items()}
    class_name = text.class_name
    if agreed and answered is not None:
        class_name = answered.class_name
    draft = DraftReading(
        name=name,
        centre_lps_mm=centre,
        class_name=class_name,
        malignancy=text.malignancy,
        sizes=sizes,
        characteristics=text.characteristics,
        evidence=text.evidence or "impression",
        comment=text.comment,
        known=answered,
    )
    if not draft.says_something:
        if nodule is not None:
            warnings.append(
                f"{name} is as it was told: nothing is recorded. To agree, write 'accept'"
            )
        elif not text.problems:
            problems.append(
                Problem(
                    what, "says nothing: write benign, malignant, indeterminate or not a nodule"
                )
            )
        return
    if text.comment and not (text.class_name or text.malignancy or text.characteristics):
        warnings.append(f"{name}: {text.comment!r} names no class; it is kept as a comment")
    same = (
        answered is not None
        and replace(draft, class_name=None, comment="").says_something is False
        and class_name == answered.class_name
    )
    outcome = "rejected" if rejected else "accepted" if same else "modified" if nodule else "new"
    uid = nodule.tracking_uid if nodule else group.tracking_uid
    drafts.append(SrDraft(draft, uid, outcome))


def _place(group: SrGroup, source: SourceSeries) -> tuple[Point, tuple[Line | None, Line | None]]:
    """The middle of what was drawn, and the axes among it."""
    axes = drawn_axes(group, source)
    shapes = [group.shape, *group.shapes.values()]
    points = [*(axes[0] or ())] or [p for shape in shapes if shape for p in shape.on(source)]
    if not points:
        raise InputError("lies on no slice of this CT: nothing is recorded of it")
    x, y, z = (sum(values) / len(points) for values in zip(*points, strict=True))
    return (x, y, z), axes


def _told_at(group: SrGroup, centre: Point, told: Sequence[ToldNodule]) -> ToldNodule | None:
    """The nodule that a group is of: by its tracking UID, which some viewers drop, or its place."""
    for nodule in told:
        if nodule.tracking_uid == group.tracking_uid:
            return nodule
    near = []
    for n, nodule in enumerate(told):
        distance = distance_in_reach_mm(centre, [_middle(nodule)], nodule.radius_mm)
        if distance is not None:
            near.append((distance, n))
    return told[min(near)[1]] if near else None


def _middle(nodule: ToldNodule) -> Point:
    if nodule.long_axis_lps_mm is None:
        return nodule.centre_lps_mm
    one, other = nodule.long_axis_lps_mm
    x, y, z = ((a + b) / 2 for a, b in zip(one, other, strict=True))
    return x, y, z


def _moved(axes: tuple[Line | None, Line | None], nodule: ToldNodule | None) -> bool:
    if nodule is None:
        return True
    before = (nodule.long_axis_lps_mm, nodule.short_axis_lps_mm)
    return any(
        now is not None and (then is None or not _same_line(now, then))
        for now, then in zip(axes, before, strict=True)
    )


def _same_line(one: Line, other: Line) -> bool:
    return any(
        all(math.dist(a, b) <= UNMOVED_MM for a, b in zip(one, ends, strict=True))
        for ends in (other, other[::-1])
    )


def _sizes(axes: tuple[Line | None, Line | None]) -> dict[str, float]:
    long, short = axes
    sizes = {}
    if long is not None:
        sizes["long_axis_mm"] = math.dist(*long)
    if long is not None and short is not None:
        sizes["short_axis_mm"] = math.dist(*short)
        sizes["mean_diameter_mm"] = (sizes["long_axis_mm"] + sizes["short_axis_mm"]) / 2
    return sizes
