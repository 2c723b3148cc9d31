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
    DraftReading,
    ParsedLabel,
    Problem,
    accepted,
    removed,
)
from resmtnet.readings.formats.label_text import LabelText, parse
from resmtnet.readings.formats.regions import (
    LARGEST_MM,
    MOST_REGIONS,
    overlap,
    regions_of,
    values_of,
)
from resmtnet.readings.matching import MatchedRegion, match_regions
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
) -> ParsedLabel:
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
    regions = (one for value in values for one in regions_of(mask, geometry, value))
    # Each value has a region at least; no more are looked for than tell that there are too many.
    found = list(islice(regions, MOST_REGIONS + 1)) if len(values) <= MOST_REGIONS else []
    if max(len(values), len(found)) > MOST_REGIONS:
        why = f"holds more than {MOST_REGIONS} separate regions; at most {MOST_REGIONS} are read"
        return ParsedLabel(not_understood=(Problem("the mask", why),))
    choices = possible_names(values, label_info, exact=exact)
    drawn = match_regions(found, known, resampled)
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
    read.resampled()
    read.removed(known, [str(entry.get("name", "")) for entry in label_info])
    return ParsedLabel(accepted(read.drafts), tuple(read.problems), tuple(warnings + read.warnings))


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


def _agreement(matched: Iterable[MatchedRegion], names: Names) -> int:
    """How many nodules bear the class that the model gave them."""
    return sum(
        one.known is not None and parse(names[one.region.value]).class_name == one.known.class_name
        for one in matched
    )


class _MaskReader:
    """Makes drafts of what is drawn."""

    def __init__(self, names: Names, matched: Sequence[MatchedRegion]) -> None:
        self._names = names
        self._matched = matched
        self.drafts: list[DraftReading] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def all(self) -> None:
        """Read every segment."""
        for value, name in self._names.items():
            if name in TOOLS:
                continue
            said = parse(name)
            label = f"segment {name!r}" if name else f"the voxels of value {value}"
            for problem in said.problems:
                self.problems.append(Problem(label, problem))
            for one in (one for one in self._matched if one.region.value == value):
                self._nodule(one, said, label)

    def _nodule(self, drawn: MatchedRegion, said: LabelText, label: str) -> None:
        region = drawn.region
        where = ", ".join(f"{mm:.1f}" for mm in region.inner_point())
        place = f"{label} at LPS ({where}) mm"
        if region.extent_mm > LARGEST_MM:
            why = f"is {region.extent_mm:.0f} mm long; a nodule is at most {LARGEST_MM:.0f} mm"
            self.problems.append(Problem(place, why))
            return
        volume = float(region.mask.sum() * np.prod(region.grid.spacing_mm))
        if volume < SMALLEST_MM3 and drawn.known is None:
            why = f"is only {volume:.1f} mm3; taken for a slip"
            self.problems.append(Problem(place, why))
            return
        if said.class_name is None and said.comment:
            if not said.problems:
                why = "is no class: name it benign, malignant, indeterminate or not a nodule"
                self.problems.append(Problem(place, why))
            return
        draft = self._draft(drawn, said)
        self._tell(drawn, said, draft)
        if draft.says_something:
            self.drafts.append(draft)
        else:
            self.problems.append(Problem(place, "has neither a class nor another outline"))

    def _draft(self, matched: MatchedRegion, said: LabelText) -> DraftReading:
        region, known = matched.region, matched.known
        drawn = not matched.unchanged and said.class_name != "not_a_nodule"
        measured = measure(region.mask, region.grid) if drawn else None
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
        return DraftReading(
            name=known.id if known else said.nodule or "a new nodule",
            centre_lps_mm=region.inner_point(),
            class_name=said.class_name,
            malignancy=said.malignancy,
            sizes=sizes | given,
            characteristics=said.characteristics,
            evidence=said.evidence or "impression",
            comment=said.comment,
            known=known,
            mask=region.mask if drawn else None,
            grid=region.grid if drawn else None,
            unchanged=matched.unchanged
            and known is not None
            and said == LabelText(said.nodule, known.class_name),
        )

    def _tell(self, drawn: MatchedRegion, said: LabelText, draft: DraftReading) -> None:
        if drawn.known and said.nodule not in (None, drawn.known.id):
            self.warnings.append(
                f"segment {said.nodule} lies over {drawn.known.id}: read as {drawn.known.id}"
            )
        if drawn.lesser_part:
            self.warnings.append(
                f"{draft.name} is a part of a nodule of which another segment has more: read as "
                "a nodule of its own"
            )
        for other in drawn.also_covers:
            self.warnings.append(f"{other.id} lies in the region of {draft.name}: read as one")

    def resampled(self) -> None:
        """Tell of nodules whose border differs, but no more than by resampling."""
        names = sorted(o.known.id for o in self._matched if o.border_differs and o.known)
        if names:
            self.warnings.append(
                f"{', '.join(names)}: other voxels at the border are taken for the resampling of "
                "this file, and no size is measured; if you have edited them, submit as .nrrd or "
                ".nii.gz"
            )

    def removed(self, known: Sequence[AnsweredNodule], names: Sequence[str]) -> None:
        """Tell of each nodule that was drawn for the reader and is not there any more."""
        kept = {id(o.known) for o in self._matched}
        kept |= {id(other) for o in self._matched for other in o.also_covers}
        over = [o.region for o in self._matched]
        denied = {
            said.nodule: said
            for said in map(parse, names)
            if said.nodule and said.class_name == "not_a_nodule"
        }
        for nodule in known:
            if not nodule.expected or nodule.mask is None or id(nodule) in kept:
                continue
            if any(overlap(region, nodule) for region in over):
                continue
            said = denied.get(nodule.id)
            if said is None:
                self.problems.append(removed(nodule))
                continue
            self.drafts.append(
                DraftReading(
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
