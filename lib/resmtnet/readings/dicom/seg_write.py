"""Writes DICOM SEG: a segment for each nodule, with its class, tracking id and UID.

PS3.3 A.51; highdicom builds the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from resmtnet import __version__
from resmtnet.errors import InputError
from resmtnet.readings.dicom.codes import (
    ARTIFICIAL_INTELLIGENCE,
    LESION_CATEGORY,
    LUNG,
    MANUFACTURER,
    MODEL_NAME,
    NODULE,
    RESEARCH,
)
from resmtnet.readings.dicom.identity import Author, ObjectPlace, person_name
from resmtnet.readings.dicom.nodule import ResultNodule, new_tracking_uid
from resmtnet.readings.dicom.source_series import SourceSeries

COLOURS: Mapping[str | None, tuple[int, int, int]] = {
    "malignant": (49152, 53000, 47000),
    "benign": (50000, 15000, 47000),
    "indeterminate": (56000, 34000, 49000),
}
"""CIELab of each class as PS3.3 C.10.7.1.1 scales it: red, green, yellow."""


@dataclass(frozen=True, eq=False)
class NamedSegment:
    """A segment to write."""

    name: str
    tracking_id: str
    tracking_uid: str
    class_name: str | None = None


def write_seg(
    nodules: Sequence[ResultNodule], source: SourceSeries, author: Author, place: ObjectPlace
) -> Dataset:
    """Return a SEG with a segment for each nodule that has a mask.

    Where two masks overlap, the nodule that is more probably malignant has the voxels, as in the
    masks of a viewer; a nodule of which nothing is left has no segment.

    Args:
        nodules: in the order of the segments.
        source: the CT.
        author: the model, or the reader.
        place: within the study.

    Raises:
        InputError: no nodule has a voxel on a slice of the series.
    """
    label_map = np.zeros(source.geometry.shape_kji, np.uint8 if len(nodules) < 256 else np.uint16)
    order = sorted(range(len(nodules)), key=lambda n: (nodules[n].probability_malignant or 0.0, n))
    for n in order:
        _paint(label_map, nodules[n], n + 1)
    segments = {
        n: NamedSegment(one.segment_name, one.name, one.tracking_uid, one.class_name)
        for n, one in enumerate(nodules, start=1)
    }
    return write_label_map(label_map, segments, source, author, place)


def write_label_map(
    label_map: NDArray[Any],
    segments: Mapping[int, NamedSegment],
    source: SourceSeries,
    author: Author,
    place: ObjectPlace,
) -> Dataset:
    """Return a SEG of a label map; values without voxels have no segment.

    Args:
        label_map: [k, j, i] on the voxels of the CT.
        segments: by voxel value.
        source: the CT; voxels between its slices are left out.
        author: the model, or the reader.
        place: within the study.

    Raises:
        InputError: no segment has a voxel on a slice of the series.
    """
    levels = [k for k in sorted(source.slices) if label_map[k].any()]
    values = [n for n in sorted(segments) if any((label_map[k] == n).any() for k in levels)]
    if not values:
        raise InputError("the mask is empty: there is nothing to store as DICOM SEG")
    frames = np.zeros((len(levels), *label_map.shape[1:]), np.uint16)
    for number, value in enumerate(values, start=1):
        frames[label_map[levels] == value] = number
    seg = Segmentation(
        source_images=[source.slices[k] for k in levels],
        pixel_array=frames if len(values) > 255 else frames.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            _description(number, segments[value], author)
            for number, value in enumerate(values, start=1)
        ],
        series_instance_uid=place.series_uid,
        series_number=place.series_number,
        sop_instance_uid=generate_uid(),
        instance_number=place.instance_number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=_versions(author),
        device_serial_number="1",
        content_label="NODULES",
        content_description=RESEARCH,
        content_creator_name=person_name(author.name),
        series_description=f"{MANUFACTURER} nodules, RESEARCH",
        omit_empty_frames=True,
    )
    for number, value in enumerate(values):
        colour = COLOURS.get(segments[value].class_name)
        if colour is not None:
            seg.SegmentSequence[number].RecommendedDisplayCIELabValue = list(colour)
    return seg


def segment_of_name(name: str, value: int, series_uid: str) -> NamedSegment:
    """Return the segment that a label map of a viewer names.

    >>> segment_of_name("N1 benign", 2, "1.2").class_name
    'benign'
    """
    from resmtnet.readings.formats.label_text import parse

    text = parse(name)
    tracking_id = text.nodule or name or f"segment {value}"
    uid = new_tracking_uid(series_uid, tracking_id)
    return NamedSegment(name or "unknown", tracking_id, uid, text.class_name)


def _paint(label_map: NDArray[Any], nodule: ResultNodule, value: int) -> None:
    if nodule.mask is None or nodule.start_ijk is None:
        return
    start = np.array(nodule.start_ijk[::-1])
    low = np.maximum(start, 0)
    high = np.minimum(start + nodule.mask.shape, label_map.shape)
    if (high <= low).any():
        return
    inside = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    part = tuple(slice(*ends) for ends in zip(low - start, high - start, strict=True))
    label_map[inside][nodule.mask[part] > 0] = value


def _description(number: int, segment: NamedSegment, author: Author) -> SegmentDescription:
    algorithm = None
    kind = SegmentAlgorithmTypeValues.MANUAL
    if author.model is not None:
        kind = SegmentAlgorithmTypeValues.AUTOMATIC
        if author.reader is not None:
            kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=author.model.name,
            family=ARTIFICIAL_INTELLIGENCE,
            version=author.model.version[:64],
            source=MANUFACTURER,
            parameters={"sha256": author.model.sha256},
        )
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=LESION_CATEGORY,
        segmented_property_type=NODULE,
        algorithm_type=kind,
        algorithm_identification=algorithm,
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.tracking_id[:64],
        anatomic_regions=[LUNG],
    )


def _versions(author: Author) -> list[str]:
    model = [] if author.model is None else [f"model {author.model.version}"[:64]]
    return [f"resmtnet {__version__}", *model]
