"""A label map that a reader sends: which nodules it holds, what each is called, how large it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import MEASURED, measure
from resmtnet.readings.formats.draft import (
    AnsweredNodule,
    DraftReading,
    ParsedLabel,
    Problem,
    accepted_at_once,
    removed,
)
from resmtnet.readings.formats.label_text import DIAMETER, LabelText, parse
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
    matched = match_regions(found, known, resampled)
    names, warnings = _names_of(values, label_info, matched, exact)
    drafts: list[DraftReading] = []
    problems: list[Problem] = []
    for value, name in names.items():
        if name not in TOOLS:
            of_segment = [one for one in matched if one.region.value == value]
            _read_segment(name, value, of_segment, drafts, problems, warnings)
    warnings += _resampling_note(matched)
    for nodule in _missing(matched, known):
        denied = _denied(nodule, label_info)
        if denied is None:
            problems.append(removed(nodule))
        else:
            drafts.append(denied)
    return ParsedLabel(tuple(drafts), tuple(problems), tuple(warnings))


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


def _names_of(
    values: Sequence[int],
    label_info: Sequence[Json],
    matched: Sequence[MatchedRegion],
    exact: bool,
) -> tuple[Names, list[str]]:
    """The names by voxel value that agree best with the answers, and a warning if in doubt."""
    choices = possible_names(values, label_info, exact=exact)
    # How many nodules bear the class that the model gave them, by each choice.
    agreement = [
        sum(
            one.known is not None
            and parse(names[one.region.value]).class_name == one.known.class_name
            for one in matched
        )
        for names in choices
    ]
    names = choices[agreement.index(max(agreement))]
    if agreement.count(max(agreement)) == 1:
        return names, []
    return names, [
        f"label_info does not say clearly which segment is which; read as {names}: "
        "give each segment the idx of its voxels"
    ]


def _read_segment(
    name: str,
    value: int,
    matched: Sequence[MatchedRegion],
    drafts: list[DraftReading],
    problems: list[Problem],
    warnings: list[str],
) -> None:
    """Read what one segment says of each of its nodules, into the three lists."""
    text = parse(name)
    label = f"segment {name!r}" if name else f"the voxels of value {value}"
    problems += [Problem(label, problem) for problem in text.problems]
    said: list[DraftReading] = []
    for one in matched:
        where = ", ".join(f"{mm:.1f}" for mm in one.region.inner_point())
        place = f"{label} at LPS ({where}) mm"
        why = _why_no_nodule(one, text)
        if why is not None:
            problems.append(Problem(place, why))
            continue
        if _names_no_class(text):
            continue  # its name is among the problems already
        if text.agrees and one.known is None and text.class_name is None:
            problems.append(Problem(place, "is no nodule of the model: there is nothing to accept"))
            continue
        draft = _draft(one, text)
        warnings += _notes(one, text, draft)
        if draft.says_something:
            said.append(draft)
        else:
            problems.append(
                Problem(place, "says nothing new: it has no class, and the outline of the model")
            )
    drafts += accepted_at_once(said)


def _names_no_class(text: LabelText) -> bool:
    """Whether a segment has a name of the reader's own that is no class, such as "vessel"."""
    return text.class_name is None and bool(text.comment)


def _why_no_nodule(one: MatchedRegion, text: LabelText) -> str | None:
    """Why a region is not read as a nodule; None where it is, or where that is told already."""
    if one.region.extent_mm > LARGEST_MM:
        return f"is {one.region.extent_mm:.0f} mm long; a nodule is at most {LARGEST_MM:.0f} mm"
    volume = float(one.region.mask.sum() * np.prod(one.region.grid.spacing_mm))
    if volume < SMALLEST_MM3 and one.known is None:
        return f"is only {volume:.1f} mm3: not read, it may be a slip of the brush"
    if _names_no_class(text) and not text.problems:
        return "is not a class: name it benign, malignant, indeterminate or not a nodule"
    return None


def _draft(one: MatchedRegion, text: LabelText) -> DraftReading:
    """What a segment says of one nodule; sizes and mask where the reader has drawn them."""
    region, known = one.region, one.known
    drawn = not one.unchanged and text.class_name != "not_a_nodule"
    measured = measure(region.mask, region.grid) if drawn else None
    sizes = {} if measured is None else {n: getattr(measured, n) for n in MEASURED}
    given = {"mean_diameter_mm" if n == DIAMETER else n: mm for n, mm in text.sizes.items()}
    class_name = text.class_name
    if text.agrees and known is not None:
        class_name = class_name or known.class_name
    words = replace(text, class_name=class_name, agrees=False)
    only_class = known is not None and words == LabelText(text.nodule, known.class_name)
    return DraftReading(
        name=known.id if known else text.nodule or "a new nodule",
        centre_lps_mm=region.inner_point(),
        class_name=class_name,
        malignancy=text.malignancy,
        sizes=sizes | given,
        characteristics=text.characteristics,
        evidence=text.evidence or "impression",
        comment=text.comment,
        known=known,
        mask=region.mask if drawn else None,
        grid=region.grid if drawn else None,
        unchanged=one.unchanged and only_class,
        agreed=text.agrees,
    )


def _notes(one: MatchedRegion, text: LabelText, draft: DraftReading) -> list[str]:
    """What the reader should know of how a region was matched."""
    notes = []
    if one.known and text.nodule not in (None, one.known.id):
        notes.append(
            f"segment {text.nodule} lies over {one.known.id}: it is read as {one.known.id}"
        )
    if one.lesser_part:
        notes.append(
            f"{draft.name} is a part of a nodule of which another segment has more: it is "
            "read as a nodule of its own"
        )
    notes += [
        f"{o.id} lies in the region of {draft.name}: they are read as one" for o in one.also_covers
    ]
    return notes


def _resampling_note(matched: Iterable[MatchedRegion]) -> list[str]:
    """A warning that names the nodules whose border differs, but no more than by resampling."""
    names = sorted(one.known.id for one in matched if one.border_differs and one.known)
    if not names:
        return []
    return [
        f"{', '.join(names)}: the border differs in some voxels, as it does when this kind of file "
        "is resampled; this is taken for no edit, and no size is measured. If you have edited "
        "them, submit as .nrrd or .nii.gz"
    ]


def _missing(
    matched: Sequence[MatchedRegion], known: Iterable[AnsweredNodule]
) -> list[AnsweredNodule]:
    """The nodules that were drawn for the reader, and that the mask does not show any more."""
    there = {id(one.known) for one in matched}
    there |= {id(other) for one in matched for other in one.also_covers}
    return [
        nodule
        for nodule in known
        if nodule.expected
        and nodule.mask is not None
        and id(nodule) not in there
        and not any(overlap(one.region, nodule) for one in matched)
    ]


def _denied(nodule: AnsweredNodule, label_info: Iterable[Json]) -> DraftReading | None:
    """What a segment such as "N2 not a nodule" says of a nodule that is missing."""
    for text in (parse(str(entry.get("name", ""))) for entry in label_info):
        if text.nodule == nodule.id and text.class_name == "not_a_nodule":
            return DraftReading(
                nodule.id,
                nodule.centre_lps_mm,
                text.class_name,
                comment=text.comment,
                known=nodule,
            )
    return None


def _whole(value: object) -> int:
    """A voxel value that a client gives as a number or as text; 0 for anything else."""
    return int(str(value)) if re.fullmatch(r"\d+", str(value)) else 0
