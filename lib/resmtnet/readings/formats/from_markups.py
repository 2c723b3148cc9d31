"""Slicer Markups that a reader sends: points with words, lines as axes, boxes as extents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.readings.formats.draft import (
    AnsweredNodule,
    DraftReading,
    ParsedLabel,
    Problem,
    removed,
)
from resmtnet.readings.formats.label_text import DIAMETER, LabelText, parse
from resmtnet.readings.formats.markups_json import BOX, LINE, POINTS, Markup, parse_markups
from resmtnet.readings.matching import distance_in_reach_mm, nodule_at, radius_mm
from resmtnet.types import Point

_UNMOVED_MM = 0.05
"""Slicer writes places with fewer digits than it holds."""
_PERPENDICULAR = 0.35
"""Largest cosine between long and short axis."""


def from_markups(
    document: Mapping[str, Any], known: Sequence[AnsweredNodule] = (), drawn: Sequence[Markup] = ()
) -> ParsedLabel:
    """Read a Markups document.

    Args:
        document: as Slicer saves it, or the plugin with *Submit*.
        known: what models had answered for the image, the latest first.
        drawn: the lines and boxes that the app had drawn; the reader's are others.

    Raises:
        ReadingError: it is no Markups document.
    """
    markups, problems = parse_markups(document)
    read = _MarkupsReader(known, drawn, problems)
    for kind in (POINTS, LINE, BOX):
        for markup in markups:
            if markup.kind == kind:
                read.markup(markup)
    return read.understood()


@dataclass(eq=False)
class _Nodule:
    """What the markups of one nodule say together."""

    name: str
    centre_lps_mm: Point
    known: AnsweredNodule | None = None
    text: LabelText = field(default_factory=LabelText)
    pointed: bool = False
    """It has a point."""
    axes: list[Markup] = field(default_factory=list)
    box: Markup | None = None
    changed: bool = False
    """Something was moved or drawn."""

    @property
    def radius_mm(self) -> float:
        """By the lines that were drawn, or as the model has it."""
        longest = max((line.length_mm for line in self.axes), default=0.0)
        return max(longest / 2, radius_mm(self.known.sizes) if self.known else 0.0)


class _MarkupsReader:
    """Gathers markups by nodule."""

    def __init__(
        self, known: Sequence[AnsweredNodule], drawn: Sequence[Markup], problems: list[Problem]
    ) -> None:
        self._known = known
        self._drawn = drawn
        self._problems = problems
        self._warnings: list[str] = []
        self._nodules: list[_Nodule] = []

    def markup(self, markup: Markup) -> None:
        """Take one markup."""
        if markup.kind == POINTS:
            for point in markup.points:
                self._point(point.lps_mm, point.label, point.description)
            return
        half_mm = markup.length_mm / 2 if markup.kind == LINE else markup.in_plane_mm[0] / 2
        texts = [parse(text) for text in (markup.name, *(p.label for p in markup.points))]
        name = next((words.nodule for words in texts if words.nodule), None)
        nodule = self._nodule(markup.middle_lps_mm, name, half_mm)
        if not any(
            other.kind == markup.kind and _same_place(markup, other) for other in self._drawn
        ):
            self._draws(nodule, markup)
        told = nodule.known and nodule.known.class_name
        for words in texts:
            # Other names of lines and boxes are not the reader's words: "N1 extent", "Line_2".
            if not (words.class_name or words.problems or words.agrees):
                continue
            # The label that differs from what the app has written is the reader's.
            as_told = words.class_name == told and nodule.text.class_name is not None
            first, second = (nodule.text, words) if as_told else (words, nodule.text)
            nodule.text = _joined(first, second)

    def _point(self, place: Point, label: str, description: str) -> None:
        text, more = parse(label), parse(description)
        nodule = self._nodule(place, text.nodule, new=True)
        nodule.pointed = True
        model = _model_diameter_mm(nodule.known)
        given_mm = more.sizes.get(DIAMETER)
        sizes = {name: mm for name, mm in more.sizes.items() if name != DIAMETER}
        if given_mm is not None and nodule.known is None:
            self._warnings.append(
                f"{nodule.name}: {DIAMETER} is left out, because the model writes it; give your "
                "own as mean_diameter_mm, or draw a line"
            )
        elif given_mm is not None and (model is None or abs(given_mm - model) > _UNMOVED_MM + 1e-9):
            sizes["mean_diameter_mm"] = given_mm
        nodule.text = _joined(nodule.text, _joined(text, replace(more, sizes=sizes)))
        if nodule.known and math.dist(place, nodule.known.centre_lps_mm) > _UNMOVED_MM:
            nodule.changed = True

    def _draws(self, nodule: _Nodule, markup: Markup) -> None:
        """Take a line or a box that is the reader's own."""
        nodule.changed = True
        if markup.kind == BOX:
            nodule.box = markup
        elif len(nodule.axes) < 2:
            nodule.axes.append(markup)
        else:
            self._problems.append(
                Problem(markup.name, "is a third line through one nodule; only two are read")
            )

    def _nodule(
        self, place: Point, name: str | None, half_mm: float = 0.0, new: bool = False
    ) -> _Nodule:
        """The nodule that a markup is of; a new one where none is near.

        Args:
            place: LPS mm.
            name: that the markup bears.
            half_mm: half of the length of what was drawn; 0 for a point.
            new: of each nodule at most one.
        """
        near = []
        for n, nodule in enumerate(self._nodules):
            if (new and nodule.pointed) or name not in (None, nodule.name):
                continue
            centres = [nodule.centre_lps_mm]
            distance = distance_in_reach_mm(place, centres, nodule.radius_mm, half_mm)
            if distance is not None:
                near.append((distance, n))
        if near:
            return self._nodules[min(near)[1]]
        taken = {id(nodule.known) for nodule in self._nodules if nodule.known}
        free = [k for k in self._known if id(k) not in taken]
        known = nodule_at(place, name, free, half_mm)
        if name and known and known.id != name:
            self._warnings.append(f"{name} lies at {known.id}: it is read as {known.id}")
        elif name and known is None and self._known:
            self._warnings.append(f"{name} is near no nodule of the model: it is read as a new one")
        nodule = _Nodule(known.id if known else name or "a new nodule", place, known)
        self._nodules.append(nodule)
        return nodule

    def understood(self) -> ParsedLabel:
        """The drafts of all nodules, and what is missing."""
        drafts = []
        for nodule in self._nodules:
            place = ", ".join(f"{mm:.1f}" for mm in nodule.centre_lps_mm)
            what = f"{nodule.name} at LPS ({place}) mm"
            self._problems += [Problem(what, problem) for problem in nodule.text.problems]
            draft = self._draft(nodule)
            if draft.says_something:
                drafts.append(draft)
            elif not nodule.text.problems:
                why = "says nothing: name it benign, malignant, indeterminate or not a nodule"
                self._problems.append(Problem(what, why))
        found = [nodule.known for nodule in self._nodules if nodule.known]
        if any(known.expected for known in found):
            self._problems += [
                removed(known)
                for known in self._known
                if known.expected and not any(_one_place(known, other) for other in found)
            ]
        return ParsedLabel(tuple(drafts), tuple(self._problems), tuple(self._warnings))

    def _draft(self, nodule: _Nodule) -> DraftReading:
        text, known = nodule.text, nodule.known
        sizes = dict(text.sizes)
        if DIAMETER in sizes:
            sizes["mean_diameter_mm"] = sizes.pop(DIAMETER)
        if text.class_name == "not_a_nodule":
            sizes = {}
        else:
            sizes = _drawn_sizes(nodule, self._warnings) | sizes
        class_name = text.class_name
        if text.agrees and known is not None:
            class_name = class_name or known.class_name
        words = replace(text, class_name=class_name, agrees=False)
        only_class = known is not None and words == LabelText(text.nodule, known.class_name)
        return DraftReading(
            name=nodule.name,
            centre_lps_mm=nodule.centre_lps_mm,
            class_name=class_name,
            malignancy=text.malignancy,
            sizes=sizes,
            characteristics=text.characteristics,
            evidence=text.evidence or "impression",
            comment=text.comment,
            known=known,
            unchanged=only_class and not nodule.changed,
            agreed=text.agrees,
        )


def _drawn_sizes(nodule: _Nodule, warnings: list[str]) -> dict[str, float]:
    """Axes by the lines; a box alone gives the mean of its axial sides."""
    lines = sorted(nodule.axes, key=lambda line: -line.length_mm)
    if not lines:
        if nodule.box is None:
            return {}
        warnings.append(
            f"{nodule.name}: a box gives the mean diameter of its axial sides; a line gives the "
            "long axis"
        )
        return {"mean_diameter_mm": sum(nodule.box.in_plane_mm) / 2}
    sizes = {"long_axis_mm": lines[0].length_mm}
    if len(lines) == 2:
        if abs(np.dot(*(_unit(line) for line in lines))) <= _PERPENDICULAR:
            sizes["short_axis_mm"] = lines[1].length_mm
            sizes["mean_diameter_mm"] = sum(line.length_mm for line in lines) / 2
        else:
            warnings.append(
                f"{nodule.name}: the shorter line does not cross the longer one at a right angle: "
                "it is left out"
            )
    return sizes


def _joined(one: LabelText, other: LabelText) -> LabelText:
    """What two texts say; where both speak of the same thing, the first holds."""
    return LabelText(
        one.nodule or other.nodule,
        one.class_name or other.class_name,
        one.malignancy or other.malignancy,
        {**other.sizes, **one.sizes},
        {**other.characteristics, **one.characteristics},
        one.evidence or other.evidence,
        "; ".join(dict.fromkeys(text for text in (one.comment, other.comment) if text)),
        one.problems + other.problems,
        one.agrees or other.agrees,
    )


def _one_place(one: AnsweredNodule, other: AnsweredNodule) -> bool:
    centres, radius = [other.centre_lps_mm], radius_mm(other.sizes)
    return one is other or distance_in_reach_mm(one.centre_lps_mm, centres, radius) is not None


def _model_diameter_mm(known: AnsweredNodule | None) -> float | None:
    """The diameter that the model wrote into the description."""
    if known is None:
        return None
    diameter = known.sizes.get("mean_diameter_mm") or known.sizes.get("equivalent_diameter_mm")
    return None if diameter is None else round(float(diameter), 1)


def _same_place(one: Markup, other: Markup) -> bool:
    """Whether two lines, or two boxes, are alike."""
    if one.kind == LINE:
        ends, others = ([point.lps_mm for point in markup.points] for markup in (one, other))
        return any(
            all(math.dist(a, b) <= _UNMOVED_MM for a, b in zip(ends, order, strict=True))
            for order in (others, others[::-1])
        )
    sides, others_sides = (np.abs(n.box_axes) @ np.asarray(n.box_size_mm) for n in (one, other))
    unmoved = math.dist(one.middle_lps_mm, other.middle_lps_mm) <= _UNMOVED_MM
    return bool(unmoved and np.abs(sides - others_sides).max() <= 2 * _UNMOVED_MM)


def _unit(line: Markup) -> NDArray[np.float64]:
    return np.subtract(line.points[1].lps_mm, line.points[0].lps_mm) / line.length_mm
