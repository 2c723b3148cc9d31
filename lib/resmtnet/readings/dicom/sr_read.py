"""Reads DICOM SR of TID 1500: our own back into nodules, and those of viewers group by group.

Tolerant: what is not known is passed over. Any SR storage class is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from resmtnet.characteristics import MALIGNANCY
from resmtnet.errors import InputError
from resmtnet.readings.dicom.codes import (
    CATEGORIES,
    CATEGORY,
    CLASSES,
    COMMENT,
    CORNERSTONE,
    LEVELS,
    LONG_AXIS,
    MALIGNANCY_CONCEPT,
    NODULE_CLASS,
    PROBABILITY,
    SHORT_AXIS,
    SIZES,
)
from resmtnet.readings.dicom.nodule import Line, ResultNodule
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_write import numbers_uid
from resmtnet.types import Point

SR_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34))
"""Basic Text, Enhanced, Comprehensive and Comprehensive 3D SR Storage."""
_REPORT = "126000"
_MEASUREMENTS = "126010"
_GROUP = "125007"
_TRACKING_ID, _TRACKING_UID = "112039", "112040"
_FINDING = "121071"
_FREE_TEXT = "CORNERSTONEFREETEXT"
"""Under this finding older versions of OHIF keep the label."""

CodeKey = tuple[str, str]
"""Value and scheme of a code."""


@dataclass(frozen=True)
class DrawnShape:
    """Points that were drawn on one image, or in space."""

    sop_instance_uid: str | None
    """None: the points are LPS mm."""
    points: tuple[tuple[float, ...], ...]
    """Column and row, or x, y and z."""
    frame_of_reference_uid: str = ""
    """Of points in space; "" where it is not said."""

    def on(self, source: SourceSeries) -> tuple[Point, ...]:
        """Return the points in LPS mm; none where the image is of another series.

        None either where points in space are of another frame of reference.
        """
        if self.sop_instance_uid is None:
            frames = source.frame_of_reference_uids
            if self.frame_of_reference_uid and frames and self.frame_of_reference_uid not in frames:
                return ()
            return tuple((p[0], p[1], p[2]) for p in self.points)
        uid = self.sop_instance_uid
        placed = (source.to_lps(uid, column, row) for column, row in self.points)
        return tuple(point for point in placed if point is not None)


@dataclass(frozen=True)
class SrGroup:
    """One measurement group."""

    tracking_id: str
    tracking_uid: str
    comments: tuple[str, ...]
    numbers: Mapping[CodeKey, float]
    shapes: Mapping[CodeKey, DrawnShape]
    """What each number was measured on."""
    shape: DrawnShape | None
    """Of the group as a whole."""
    evaluations: Mapping[CodeKey, CodeKey]


@dataclass(frozen=True)
class SrDocument:
    """An SR as far as it concerns nodules."""

    sop_instance_uid: str
    series_uid: str
    study_uid: str
    predecessors: tuple[str, ...]
    """SOP instances of which it is a new version."""
    groups: tuple[SrGroup, ...] = field(default=())


def read_sr(sr: Dataset) -> SrDocument:
    """Read an SR.

    Raises:
        InputError: it is no measurement report (TID 1500).
    """
    if sr.get("SOPClassUID") not in SR_CLASSES or _name(sr)[0] != _REPORT:
        raise InputError(f"{_name(sr)[0] or 'the object'} is no measurement report (TID 1500)")
    items = list(_items(sr))
    groups = [
        _group(group)
        for container in items
        if _name(container)[0] == _MEASUREMENTS
        for group in _items(container)
        if _name(group)[0] == _GROUP
    ]
    return SrDocument(
        str(sr.SOPInstanceUID),
        str(sr.SeriesInstanceUID),
        str(sr.StudyInstanceUID),
        tuple(_predecessors(sr)),
        tuple(groups),
    )


def nodules_of(document: SrDocument, source: SourceSeries) -> list[ResultNodule]:
    """Return the nodules of an SR that this package has written; without their masks."""
    editable = {group.tracking_uid: group for group in document.groups}
    found = []
    for uid, group in editable.items():
        if group.tracking_id != CORNERSTONE:
            continue
        numbers = editable.get(numbers_uid(uid))
        if numbers is not None:
            found.append(_nodule(uid, group, numbers, source))
    taken = {numbers_uid(nodule.tracking_uid) for nodule in found}
    found += [
        _nodule(group.tracking_uid, None, group, source)
        for group in document.groups
        if group.tracking_id != CORNERSTONE and group.tracking_uid not in taken
    ]
    return found


def drawn_axes(group: SrGroup, source: SourceSeries) -> tuple[Line | None, Line | None]:
    """Return the long and the short axis that a group was drawn with, LPS mm."""
    lines = [_line(group.shapes.get(_key(name)), source) for name in (LONG_AXIS, SHORT_AXIS)]
    long, short = lines
    if long and short and math.dist(*short) > math.dist(*long):
        long, short = short, long
    return long, short


def _nodule(
    uid: str, editable: SrGroup | None, numbers: SrGroup, source: SourceSeries
) -> ResultNodule:
    long, short = (None, None) if editable is None else drawn_axes(editable, source)
    points = numbers.shape.on(source) if numbers.shape else ()
    sizes = {
        name: numbers.numbers[_key(c)] for name, c in SIZES.items() if _key(c) in numbers.numbers
    }
    levels = {}
    for concept, (task, by_code) in LEVELS.items():
        value = numbers.evaluations.get(concept)
        if value is not None and value in by_code and task is not MALIGNANCY:
            levels[task.name] = by_code[value]
    by_class = {code.value: name for name, code in CLASSES.items()}
    class_code = numbers.evaluations.get(_key(NODULE_CLASS))
    category = numbers.evaluations.get(_key(CATEGORY))
    return ResultNodule(
        name=numbers.tracking_id,
        tracking_uid=uid,
        centre_lps_mm=_middle(long or points),
        class_name=None if class_code is None else by_class.get(class_code[0]),
        probability_malignant=numbers.numbers.get(_key(PROBABILITY)),
        malignancy=numbers.numbers.get(_key(MALIGNANCY_CONCEPT)),
        sizes=sizes,
        characteristics=levels,
        category=None if category is None else CATEGORIES.get(category[0]),
        long_axis_lps_mm=long,
        short_axis_lps_mm=short,
        warnings=numbers.comments[1:],
    )


def _group(container: Dataset) -> SrGroup:
    tracking_id = tracking_uid = ""
    comments: list[str] = []
    numbers: dict[CodeKey, float] = {}
    shapes: dict[CodeKey, DrawnShape] = {}
    evaluations: dict[CodeKey, CodeKey] = {}
    shape = None
    for item in _items(container):
        name, kind = _name(item), str(item.get("ValueType", ""))
        if name[0] == _TRACKING_ID:
            tracking_id = str(item.get("TextValue", ""))
        elif name[0] == _TRACKING_UID:
            tracking_uid = str(item.get("UID", ""))
        elif kind == "TEXT" and name == _key(COMMENT):
            comments.append(str(item.get("TextValue", "")))
        elif kind == "NUM":
            value = _number(item)
            if value is not None:
                numbers[name] = value
            drawn = next((s for s in map(_shape, _items(item)) if s), None)
            if drawn is not None:
                shapes[name] = drawn
        elif kind == "CODE" and item.get("ConceptCodeSequence"):
            code = item.ConceptCodeSequence[0]
            if name[0] == _FINDING and _value(code) == _FREE_TEXT:
                comments.append(str(code.get("CodeMeaning", "")))
            evaluations[name] = (_value(code), str(code.get("CodingSchemeDesignator", "")))
        elif shape is None:
            shape = _shape(item)
    return SrGroup(tracking_id, tracking_uid, tuple(comments), numbers, shapes, shape, evaluations)


def _shape(item: Dataset) -> DrawnShape | None:
    kind = str(item.get("ValueType", ""))
    if kind not in ("SCOORD", "SCOORD3D") or not item.get("GraphicData"):
        return None
    given = item.GraphicData
    data = [float(x) for x in ([given] if isinstance(given, (int, float)) else given)]
    step = 3 if kind == "SCOORD3D" else 2
    points = tuple(zip(*(data[n::step] for n in range(step)), strict=False))
    if kind == "SCOORD3D":
        return DrawnShape(None, points, str(item.get("ReferencedFrameOfReferenceUID") or ""))
    images = [image for image in _items(item) if image.get("ReferencedSOPSequence")]
    if not images:
        return None
    return DrawnShape(str(images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID), points)


def _line(shape: DrawnShape | None, source: SourceSeries) -> Line | None:
    points = shape.on(source) if shape else ()
    return (points[0], points[1]) if len(points) >= 2 else None


def _middle(points: Sequence[Point]) -> Point:
    if not points:
        raise InputError("a nodule of the SR lies on no slice of the CT")
    x, y, z = (sum(values) / len(points) for values in zip(*points, strict=True))
    return x, y, z


def _number(item: Dataset) -> float | None:
    measured = item.get("MeasuredValueSequence")
    try:
        return float(measured[0].NumericValue) if measured else None
    except (AttributeError, TypeError, ValueError):
        return None


def _items(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ContentSequence") or ()


def _name(item: Dataset) -> CodeKey:
    names = item.get("ConceptNameCodeSequence")
    if not names:
        return "", ""
    return _value(names[0]), str(names[0].get("CodingSchemeDesignator", ""))


def _value(code: Dataset) -> str:
    return str(code.get("CodeValue") or code.get("LongCodeValue") or "")


def _key(code: Code) -> CodeKey:
    return str(code.value), str(code.scheme_designator)


def _predecessors(sr: Dataset) -> Iterator[str]:
    for study in sr.get("PredecessorDocumentsSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for instance in series.get("ReferencedSOPSequence") or ():
                yield str(instance.get("ReferencedSOPInstanceUID", ""))
