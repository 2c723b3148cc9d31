"""A label map that a reader sends: which nodules it holds, what each is called, how large it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import measure
from resmtnet.readings.formats.draft import (
    AnsweredNodule,
    Draft,
    Problem,
    Understood,
    accepted,
    removed,
)
from resmtnet.readings.formats.label_text import LabelText, parse
from resmtnet.readings.formats.region_matching import Outline, outlines
from resmtnet.readings.formats.regions import LARGEST_MM, MOST_PIECES, overlap, pieces, values_of
from resmtnet.types import Json

SMALLEST_MM3 = 4.0
"""A region that is smaller (2 mm in diameter) and overlaps no known nodule is a slip."""

TOOLS = frozenset({"background", "foreground_scribbles", "background_scribbles"})
"""Segments of Slicer's plugin that are no labels: it leaves them out itself, but of .seg.nrrd."""

Names = Mapping[int, str]
"""Name of the segment by its voxel value."""


def from_mask(
    mask: NDArray[Any],
    geometry: Geometry,
    label_info: Sequence[Json],
    known: Sequence[AnsweredNodule] = (),
    *,
    exact: bool = False,
    resampled: bool = False,
) -> Understood:
    """Read a label map.

    Args:
        mask: [k, j, i], whole numbers; 0 = background.
        geometry: of its voxels.
        label_info: [{"name", "idx"}] of the segments, in their order.
        known: what models had answered for the image, the latest first.
        exact: idx is the voxel value (a .seg.nrrd says so), not Slicer's count of segments.
        resampled: what differs from an answer by voxels at the border is no edit.
    """
    values = values_of(mask)
    regions = (piece for value in values for piece in pieces(mask, geometry, value))
    # Each value has a region at least; no more are looked for than tell that there are too many.
    found = list(islice(regions, MOST_PIECES + 1)) if len(values) <= MOST_PIECES else []
    if max(len(values), len(found)) > MOST_PIECES:
        why = f"holds more than {MOST_PIECES} separate regions; at most {MOST_PIECES} are read"
        return Understood(not_understood=(Problem("the mask", why),))
    choices = possible_names(values, label_info, exact=exact)
    drawn = outlines(found, known, resampled)
    agreement = [_agreement(drawn, names) for names in choices]
    names = choices[agreement.index(max(agreement))]
    warnings = []
    if agreement.count(max(agreement)) > 1:
        warnings.append(
            f"label_info does not say clearly which segment is which; read as {names}: "
            "give each segment the idx of its voxels"
        )
    read = _MaskReader(names, drawn)
    read.all()
    read.blurred()
    read.removed(known, [str(entry.get("name", "")) for entry in label_info])
    return Understood(accepted(read.drafts), tuple(read.problems), tuple(warnings + read.warnings))


def possible_names(
    values: Sequence[int], label_info: Sequence[Json], *, exact: bool = False
) -> list[dict[int, str]]:
    """Which segment each voxel value may be, the most probable first.

    Slicer numbers the voxels by the place of the segment in the list, but its `idx` also counts
    segments that it left out of the list; other clients give the voxel value as `idx`, or list
    only the segments that have voxels.

    Args:
        values: voxel values of the mask, ascending.
        label_info: [{"name", "idx"}] of the segments, in their order.
        exact: idx is the voxel value.

    Returns:
        At least one; different from one another. A value without a name has the name "".

    >>> possible_names([2], [{"name": "benign", "idx": 2}, {"name": "malignant", "idx": 3}])
    [{2: 'malignant'}, {2: 'benign'}]
    """
    names = [str(entry.get("name", "")) for entry in label_info]
    idx = [_whole(entry.get("idx")) for entry in label_info]
    by_idx, by_order = dict(zip(idx, names, strict=True)), dict(enumerate(names, start=1))
    from_slicer = all(n >= place for n, place in zip(idx, by_order, strict=True))
    likely = [by_order, by_idx] if from_slicer and idx == sorted(idx) else [by_idx, by_order]
    choices: list[dict[int, str]] = []
    for named in [by_idx] if exact else likely:
        choice = {value: named[value] for value in values if value in named}
        if len(choice) == len(values) and choice not in choices:
            choices.append(choice)
    if not choices and not exact and len(values) == len(names):
        choices.append(dict(zip(values, names, strict=True)))
    return choices or [dict.fromkeys(values, "")]


def _agreement(outlines: Iterable[Outline], names: Names) -> int:
    """How many nodules bear the class that the model gave them."""
    return sum(
        outline.known is not None
        and parse(names[outline.piece.value]).class_name == outline.known.class_name
        for outline in outlines
    )


class _MaskReader:
    """Makes drafts of what is drawn."""

    def __init__(self, names: Names, outlines: Sequence[Outline]) -> None:
        self._names = names
        self._outlines = outlines
        self.drafts: list[Draft] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def all(self) -> None:
        """Read every outline."""
        for value, name in self._names.items():
            if name in TOOLS:
                continue
            said = parse(name)
            label = f"segment {name!r}" if name else f"the voxels of value {value}"
            for problem in said.problems:
                self.problems.append(Problem(label, problem))
            for outline in (o for o in self._outlines if o.piece.value == value):
                self._one(outline, said, label)

    def _one(self, outline: Outline, said: LabelText, label: str) -> None:
        piece = outline.piece
        where = ", ".join(f"{mm:.1f}" for mm in piece.inner_point())
        place = f"{label} at LPS ({where}) mm"
        if piece.extent_mm > LARGEST_MM:
            why = f"is {piece.extent_mm:.0f} mm long; a nodule is at most {LARGEST_MM:.0f} mm"
            self.problems.append(Problem(place, why))
            return
        volume = float(piece.mask.sum() * np.prod(piece.grid.spacing_mm))
        if volume < SMALLEST_MM3 and outline.known is None:
            why = f"is only {volume:.1f} mm3; taken for a slip"
            self.problems.append(Problem(place, why))
            return
        if said.class_name is None and said.comment:
            if not said.problems:
                why = "is no class: name it benign, malignant, indeterminate or not a nodule"
                self.problems.append(Problem(place, why))
            return
        draft = self._draft(outline, said)
        self._tell(outline, said, draft)
        if draft.says_something:
            self.drafts.append(draft)
        else:
            self.problems.append(Problem(place, "has neither a class nor another outline"))

    def _draft(self, outline: Outline, said: LabelText) -> Draft:
        piece, known = outline.piece, outline.known
        drawn = not outline.same and said.class_name != "not_a_nodule"
        measured = measure(piece.mask, piece.grid) if drawn else None
        sizes = (
            {}
            if measured is None
            else {
                "long_axis_mm": measured.long_axis_mm,
                "short_axis_mm": measured.short_axis_mm,
                "mean_diameter_mm": measured.mean_diameter_mm,
                "equivalent_diameter_mm": measured.equivalent_diameter_mm,
                "volume_mm3": measured.volume_mm3,
            }
        )
        given = {"mean_diameter_mm" if n == "diameter_mm" else n: v for n, v in said.sizes.items()}
        return Draft(
            name=known.id if known else said.nodule or "a new nodule",
            centre_lps_mm=piece.inner_point(),
            class_name=said.class_name,
            malignancy=said.malignancy,
            sizes=sizes | given,
            characteristics=said.characteristics,
            evidence=said.evidence or "impression",
            comment=said.comment,
            known=known,
            mask=piece.mask if drawn else None,
            grid=piece.grid if drawn else None,
            unchanged=outline.same
            and known is not None
            and said == LabelText(said.nodule, known.class_name),
        )

    def _tell(self, outline: Outline, said: LabelText, draft: Draft) -> None:
        if outline.known and said.nodule not in (None, outline.known.id):
            self.warnings.append(
                f"segment {said.nodule} lies over {outline.known.id}: read as {outline.known.id}"
            )
        if outline.touches:
            self.warnings.append(
                f"{draft.name} is a part of a nodule of which another segment has more: read as "
                "a nodule of its own"
            )
        for other in outline.others:
            self.warnings.append(f"{other.id} lies in the region of {draft.name}: read as one")

    def blurred(self) -> None:
        """Tell of nodules whose border differs, but no more than by resampling."""
        names = sorted(o.known.id for o in self._outlines if o.blurred and o.known)
        if names:
            self.warnings.append(
                f"{', '.join(names)}: other voxels at the border are taken for the resampling of "
                "this file, and no size is measured; if you have edited them, submit as .nrrd or "
                ".nii.gz"
            )

    def removed(self, known: Sequence[AnsweredNodule], names: Sequence[str]) -> None:
        """Tell of each nodule that was drawn for the reader and is not there any more."""
        kept = {id(o.known) for o in self._outlines}
        kept |= {id(other) for o in self._outlines for other in o.others}
        over = [o.piece for o in self._outlines]
        denied = {
            said.nodule: said
            for said in map(parse, names)
            if said.nodule and said.class_name == "not_a_nodule"
        }
        for nodule in known:
            if not nodule.expected or nodule.mask is None or id(nodule) in kept:
                continue
            if any(overlap(piece, nodule) for piece in over):
                continue
            said = denied.get(nodule.id)
            if said is None:
                self.problems.append(removed(nodule))
                continue
            self.drafts.append(
                Draft(
                    nodule.id,
                    nodule.centre_lps_mm,
                    said.class_name,
                    comment=said.comment,
                    known=nodule,
                )
            )


def _whole(value: object) -> int:
    """A voxel value that a client gives as a number or as text; 0 for anything else."""
    return int(str(value)) if re.fullmatch(r"\d+", str(value)) else 0
