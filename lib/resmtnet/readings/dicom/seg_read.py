"""Reads DICOM SEG, ours and those of viewers, onto the voxels of the CT.

Binary, fractional and label-map segmentations (PS3.3 A.51 and A.94). Frames are placed by their
position and orientation, never by their number: some exports have them in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from resmtnet.ct import Geometry
from resmtnet.errors import VolumeError

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
LABEL_MAP = SEG_CLASSES[1]
_OFF_GRID = 0.3
"""In voxels: a SEG that lies farther from the voxels of the CT was drawn on another grid."""
_MOST_FRAMES = 20_000
_MOST_PIXELS = 2_000_000_000


@dataclass(frozen=True)
class ReadSegment:
    """One segment as the file describes it."""

    value: int
    """In the label map: 1, 2, ... in the order of the file."""
    name: str
    tracking_uid: str | None
    tracking_id: str | None


@dataclass(frozen=True, eq=False)
class ReadSeg:
    """A segmentation on the voxels of the CT."""

    label_map: NDArray[np.uint16]
    """[k, j, i]; where two segments claim a voxel, the later one has it."""
    segments: tuple[ReadSegment, ...]
    """Those that have voxels."""
    overlapping: int
    """Voxels that two segments claim."""


def read_seg(seg: Dataset, ct: Geometry) -> ReadSeg:
    """Read a segmentation.

    Args:
        seg: with its pixels.
        ct: the grid that it was drawn on.

    Raises:
        VolumeError: it is no segmentation, or lies on another grid.
    """
    if seg.get("SOPClassUID") not in SEG_CLASSES:
        raise VolumeError(f"{seg.get('SOPClassUID', 'the object')} is no DICOM segmentation.")
    numbers = [int(item.SegmentNumber) for item in seg.SegmentSequence]
    value_of = {number: n for n, number in enumerate(numbers, start=1) if number > 0}
    if len(value_of) > 65_000:
        raise VolumeError(f"The SEG has {len(value_of)} segments; at most 65000 are read.")
    label_map = np.zeros(ct.shape_kji, np.uint16)
    overlapping = 0
    for number, ijk in _painted(seg, ct):
        value = value_of.get(number)
        if value is None:
            continue  # the background of a label map
        i, j, k = ijk.T
        before = label_map[k, j, i]
        overlapping += int(((before > 0) & (before != value)).sum())
        label_map[k, j, i] = np.maximum(before, value)
    used = set(np.unique(label_map).tolist())
    segments = tuple(
        ReadSegment(
            value_of[int(item.SegmentNumber)],
            str(item.get("SegmentLabel", "")),
            str(item.TrackingUID) if item.get("TrackingUID") else None,
            str(item.TrackingID) if item.get("TrackingID") else None,
        )
        for item in seg.SegmentSequence
        if value_of.get(int(item.SegmentNumber)) in used
    )
    return ReadSeg(label_map, segments, overlapping)


def _painted(seg: Dataset, ct: Geometry) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Segment number and voxels (i, j, k), [N, 3], of each frame."""
    count = int(seg.get("NumberOfFrames", 1))
    if count > _MOST_FRAMES or count * int(seg.Rows) * int(seg.Columns) > _MOST_PIXELS:
        raise VolumeError(f"The SEG has {count} frames of {seg.Rows} x {seg.Columns}: too many.")
    pixels = seg.pixel_array.reshape(count, int(seg.Rows), int(seg.Columns))
    threshold = 0
    if str(seg.get("SegmentationType", "")) == "FRACTIONAL":
        threshold = int(seg.MaximumFractionalValue) // 2
    is_label_map = seg.SOPClassUID == LABEL_MAP
    for n, frame in enumerate(pixels):
        if not frame.any():
            continue
        to_ijk = _frame_to_ijk(seg, n, ct)
        if is_label_map:
            for number in np.unique(frame[frame > 0]):
                yield int(number), _voxels(np.argwhere(frame == number), to_ijk, ct)
        else:
            item = _of(seg, n, "SegmentIdentification")
            rows = np.argwhere(frame > threshold)
            yield int(item.ReferencedSegmentNumber), _voxels(rows, to_ijk, ct)


def _frame_to_ijk(seg: Dataset, n: int, ct: Geometry) -> NDArray[np.float64]:
    """float64 (3, 3): the voxel (i, j, k) of pixel (0, 0), and the steps by row and by column."""
    position = np.array([float(x) for x in _of(seg, n, "PlanePosition").ImagePositionPatient])
    cosines = [float(x) for x in _of(seg, n, "PlaneOrientation").ImageOrientationPatient]
    row_mm, column_mm = (float(x) for x in _of(seg, n, "PixelMeasures").PixelSpacing)
    start = ct.lps_to_ijk(position)
    down = ct.lps_to_ijk(position + np.array(cosines[3:]) * row_mm) - start
    across = ct.lps_to_ijk(position + np.array(cosines[:3]) * column_mm) - start
    return np.stack([start, down, across])


def _of(seg: Dataset, n: int, group: str) -> Dataset:
    """The item of a functional group of a frame, or that which all frames share.

    Raises:
        VolumeError: neither has it.
    """
    name = f"{group}Sequence"
    frames = seg.get("PerFrameFunctionalGroupsSequence") or ()
    shared = seg.get("SharedFunctionalGroupsSequence") or ()
    for place in (*frames[n : n + 1], *shared[:1]):
        if name in place and place[name].value:
            return place[name].value[0]
    raise VolumeError(f"Frame {n + 1} of the SEG has no {name}: where it lies is not known.")


def _voxels(
    rows_columns: NDArray[np.int64], to_ijk: NDArray[np.float64], ct: Geometry
) -> NDArray[np.int64]:
    exact = to_ijk[0] + rows_columns @ to_ijk[1:]
    ijk = np.rint(exact).astype(np.int64)
    inside = ((ijk >= 0) & (ijk < ct.size_ijk)).all(1)
    if len(exact) and (not inside.any() or np.abs(exact - ijk)[inside].max() > _OFF_GRID):
        raise VolumeError(
            "The SEG does not lie on the voxels of the CT: it belongs to another series."
        )
    return np.asarray(ijk[inside])
