"""Which acquisition each image of a series belongs to: several may share one SeriesInstanceUID.

Contrast phases, kernels and passes of the table are parted by the elements that differ between
them, but only where their slices cannot be one volume: where they lie at the same positions, or
out of step with one another. Acquisitions that continue one another (step and shoot) stay whole.

References:
    DICOM PS3.3, C.7.3.1 (a series), C.7.6.1 and C.8.2.1 (what an acquisition says of itself).
    https://github.com/Slicer/Slicer/pull/4801, https://github.com/rordenlab/dcm2niix/issues/721
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.dicom_header import Header

SAME_POSITION_MM = 0.01
"""Two slices that are closer lie at one position."""

_KINDS = (
    "ImagePositionPatient",
    "PatientID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientPosition",
    "SeriesNumber",
    "SeriesDescription",
    "StackID",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "ImageType",
    "ConvolutionKernel",
    "FilterType",
    "KVP",
    "SliceThickness",
    "ReconstructionDiameter",
    "ContrastBolusAgent",
    "NominalPercentageOfCardiacPhase",
    "DiffusionBValue",
    "ProtocolName",
    "ImageComments",
    "SeriesTime",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "TriggerTime",
    "ContentDate",
    "ContentTime",
)
"""Elements that have one value in the whole of an acquisition, the most telling first."""

_ORDERS = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "TriggerTime",
    "ContentTime",
    "InstanceNumber",
)
"""Elements that may rise from slice to slice: an acquisition is one sweep along the patient."""

_IN_STEP = 0.9
"""Slices of one volume are at least so far from one another, in its own slice spacings."""

_SCAN_GAP = 3.5
"""Two ranges further apart than so many slice spacings are two volumes."""

_MOST_SWEEPS = 16

_NUMBER = re.compile(r"\s*[-+]?\d{1,30}(\.\d*)?")


@dataclass(frozen=True, eq=False)
class Placed:
    """An image, and its position along the normal of its plane in mm."""

    position_mm: float
    header: Header
    corner: str = ""
    """Where its first voxel lies in the plane: two fields of view are two acquisitions."""

    def value(self, name: str) -> str:
        """The text of an element; ImagePositionPatient is its part within the plane."""
        return self.corner if name == "ImagePositionPatient" else self.header.values.get(name, "")


Part = list[Placed]


def part_acquisitions(images: Sequence[Placed]) -> tuple[list[Part], tuple[str, ...]]:
    """The acquisitions of images of one size and orientation.

    Args:
        images: in any order.

    Returns:
        The acquisitions, and the names of the elements that part them (none for a single one).
        Each may still hold several images of one position, where nothing parts them.
    """
    parts: list[Part] = [list(images)]
    used = []
    for split, names in ((_by_value, _KINDS), (_by_sweeps, _ORDERS), (_by_rank, _ORDERS)):
        for name in names:
            found = _split_all(parts, name, split)
            if len(found) > len(parts):
                used.append(name)
            parts = found
    return parts, tuple(dict.fromkeys(used))


def differing(parts: Sequence[Part]) -> tuple[str, ...]:
    """The elements that have one value in each acquisition, and not the same in all of them."""
    names = []
    for name in _KINDS:
        values = [{image.value(name) for image in part} for part in parts]
        if all(len(value) == 1 for value in values) and len(set.union(*values)) > 1:
            names.append(name)
    return tuple(names)


def _split_all(
    parts: list[Part], name: str, split: Callable[[Part, str], list[Part]]
) -> list[Part]:
    found = []
    for part in parts:
        found += split(part, name) if len(part) > 2 else [part]
    return found


def _by_value(part: Part, name: str) -> list[Part]:
    """Parts by the value of an element, those that continue one another as one."""
    values = [image.value(name) for image in part]
    n_values = len(set(values))
    # A value of each image is an order and not a kind.
    if n_values < 2 or n_values > max(2, len(part) // 2):
        return [part]
    if _continue_one_another(part, values):
        return [part]
    groups: dict[str, Part] = defaultdict(list)
    for value, image in zip(values, part, strict=True):
        groups[value].append(image)
    return _chained([groups[value] for value in sorted(groups, key=rank)])


def _continue_one_another(part: Part, values: Sequence[str]) -> bool:
    """Whether images of each value lie together, and the next value where the last one ends.

    This is what `_chained` would find, at a small part of its cost.
    """
    order = np.argsort([image.position_mm for image in part], kind="stable")
    gaps = np.diff(np.array([image.position_mm for image in part])[order])
    spacing = float(np.median(gaps))
    joints = np.array([values[a] != values[b] for a, b in pairwise(order)])
    if int(joints.sum()) != len(set(values)) - 1 or gaps.min() <= SAME_POSITION_MM:
        return False
    return bool(
        (gaps[joints] > _IN_STEP * spacing).all() and (gaps[joints] < _SCAN_GAP * spacing).all()
    )


def _by_sweeps(part: Part, name: str) -> list[Part]:
    """Parts at the places where the order of an element turns back along the patient."""
    ordered = _in_order(part, name)
    if ordered is None:
        return [part]
    sweeps: list[Part] = [[ordered[0]]]
    direction = 0.0
    for before, image in pairwise(ordered):
        step = image.position_mm - before.position_mm
        if abs(step) <= SAME_POSITION_MM or step * direction < 0:
            sweeps.append([])
            direction = 0.0
        else:
            direction = step
        sweeps[-1].append(image)
    if not 1 < len(sweeps) <= _MOST_SWEEPS or min(map(len, sweeps)) < 2:
        return [part]
    return _chained(sweeps)


def _by_rank(part: Part, name: str) -> list[Part]:
    """Parts where every position has the same number of images: the first of each, the second.

    Only if the element rises or falls evenly along each of the parts.
    """
    places = _places(part)
    copies = len(places[0])
    if copies < 2 or len(places) < 2 or any(len(place) != copies for place in places):
        return [part]
    ranked = [_in_order(place, name) for place in places]
    if any(place is None for place in ranked):
        return [part]
    parts = [[place[n] for place in ranked if place] for n in range(copies)]
    for one in parts:
        values = np.array([_number(image.value(name)) for image in one])
        steps = np.diff(values)
        if not ((steps > 0).all() or (steps < 0).all()):
            return [part]
    return parts


def _in_order(part: Part, name: str) -> Part | None:
    """Images by the number that an element has; None if it is missing or not each its own."""
    numbers = [_number(image.value(name)) for image in part]
    if any(number is None for number in numbers) or len(set(numbers)) < len(numbers):
        return None
    order = sorted(range(len(part)), key=lambda n: numbers[n] or 0.0)
    return [part[n] for n in order]


def _places(part: Part) -> list[Part]:
    """Images by position, ascending."""
    places: list[Part] = []
    for image in sorted(part, key=lambda image: image.position_mm):
        if places and image.position_mm - places[-1][0].position_mm <= SAME_POSITION_MM:
            places[-1].append(image)
        else:
            places.append([image])
    return places


def _chained(groups: Sequence[Part]) -> list[Part]:
    """Groups that can be one volume together, in the given order, as one."""
    chains: list[Part] = []
    for group in groups:
        for chain in chains:
            if not _conflict(chain, group):
                chain += group
                break
        else:
            chains.append(list(group))
    return chains


def _conflict(one: Part, other: Part) -> bool:
    """Whether two groups of slices cannot be one volume."""
    a, b = _positions(one), _positions(other)
    spacings = [float(np.median(np.diff(x))) for x in (a, b) if len(x) > 1]
    spacing = min(spacings, default=0.0)
    place = np.searchsorted(a, b)
    away = np.minimum(
        np.abs(b - a[np.clip(place - 1, 0, len(a) - 1)]),
        np.abs(b - a[np.clip(place, 0, len(a) - 1)]),
    )
    if away.min() <= max(_IN_STEP * spacing, SAME_POSITION_MM):
        return True
    apart = max(b[0] - a[-1], a[0] - b[-1])
    return bool(
        len(spacings) == 2 and min(len(a), len(b)) > 4 and apart > _SCAN_GAP * max(spacings)
    )


def _positions(part: Part) -> NDArray[np.float64]:
    """Each position once, ascending."""
    return np.array([place[0].position_mm for place in _places(part)])


def rank(text: str) -> tuple[float, str]:
    """Sorts the values of an element: by number where it is one, else after these as text."""
    number = _number(text)
    return (float("inf") if number is None else number, text)


def _number(text: str) -> float | None:
    """The number in an element; times and dates as they are written, which keeps their order."""
    match = _NUMBER.match(text)
    return float(match[0]) if match else None
