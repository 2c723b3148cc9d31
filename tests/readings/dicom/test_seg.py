"""DICOM SEG: what is written is read back, and viewers' segmentations are placed by position."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_results import MODEL, assert_valid, varied_nodules
from resmtnet.ct import Geometry
from resmtnet.errors import InputError, VolumeError
from resmtnet.readings.dicom.identity import is_ours, new_place
from resmtnet.readings.dicom.nodule import ResultNodule
from resmtnet.readings.dicom.seg_read import LABEL_MAP, read_seg
from resmtnet.readings.dicom.seg_write import segment_of_name, write_label_map, write_seg
from resmtnet.readings.dicom.source_series import SourceSeries


def _painted(nodules: list[ResultNodule], grid: Geometry) -> np.ndarray:
    """[k, j, i] numbers of the nodules, the more probably malignant above."""
    label_map = np.zeros(grid.shape_kji, int)
    for n in sorted(range(len(nodules)), key=lambda n: nodules[n].probability_malignant or 0):
        one = nodules[n]
        if one.mask is None or one.start_ijk is None:
            continue
        for k, j, i in np.argwhere(one.mask) + np.array(one.start_ijk[::-1]):
            if all(0 <= at < size for at, size in zip((k, j, i), label_map.shape, strict=True)):
                label_map[k, j, i] = n + 1
    return label_map


def test_each_of_fifty_nodules_has_a_segment_that_is_read_back_voxel_by_voxel(
    source: SourceSeries, tmp_path: Path
) -> None:
    nodules = varied_nodules(source.geometry, 50, source.series_uid)
    seg = write_seg(nodules, source, MODEL, new_place(4))
    assert_valid(seg, tmp_path / "seg.dcm")
    read, painted = read_seg(seg, source.geometry), _painted(nodules, source.geometry)
    assert read.overlapping == 0
    for segment in read.segments:
        number = next(n for n, one in enumerate(nodules, 1) if one.name == segment.tracking_id)
        assert np.array_equal(read.label_map == segment.value, painted == number)
        assert segment.name == nodules[number - 1].segment_name
        assert segment.tracking_uid == nodules[number - 1].tracking_uid
    assert len(read.segments) == len(set(np.unique(painted)) - {0})


def test_a_seg_says_what_a_viewer_and_a_pacs_have_to_know(source: SourceSeries) -> None:
    seg = write_seg(varied_nodules(source.geometry, 3), source, MODEL, new_place(300))
    assert seg.SeriesNumber == 301
    assert "RESEARCH" in seg.SeriesDescription
    assert is_ours(seg)
    assert seg.ContentCreatorName != ""
    for segment in seg.SegmentSequence:
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmVersion == "1.2.0"
        assert "ab" * 32 in algorithm.AlgorithmParameters
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    assert seg.FrameOfReferenceUID == source.any.FrameOfReferenceUID


def test_a_value_without_voxels_has_no_segment(source: SourceSeries) -> None:
    label_map = np.zeros(source.geometry.shape_kji, np.uint8)
    label_map[5, 6, 7] = 3
    segments = {n: segment_of_name(f"N{n} benign", n, "1.2") for n in (1, 2, 3)}
    seg = write_label_map(label_map, segments, source, MODEL, new_place(1))
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["N3 benign"]
    with pytest.raises(InputError, match="empty"):
        write_label_map(np.zeros_like(label_map), segments, source, MODEL, new_place(1))


def _label_map_seg(source: SourceSeries, flipped: bool) -> tuple[object, np.ndarray]:
    """A label-map segmentation as OHIF 3.13 exports it, its frames in the reverse order of z."""
    label_map = np.zeros(source.geometry.shape_kji, np.uint8)
    label_map[10:14, 20:30, 40:44] = 1
    label_map[12:16, 50:55, 10:20] = 2
    segments = {n: segment_of_name(f"N{n} malignant", n, "1.2") for n in (1, 2)}
    file = io.BytesIO()
    write_label_map(label_map, segments, source, MODEL, new_place(1)).save_as(file)
    file.seek(0)
    seg = dcmread(file)
    levels = sorted(source.slices, reverse=flipped)
    frames, groups = [], []
    for k in levels:
        group = copy.deepcopy(seg.PerFrameFunctionalGroupsSequence[0])
        group.PlanePositionSequence[0].ImagePositionPatient = source.slices[k].ImagePositionPatient
        del group.SegmentIdentificationSequence
        frames.append(label_map[k])
        groups.append(group)
    seg.SOPClassUID = LABEL_MAP
    seg.SegmentationType = "LABELMAP"
    seg.PerFrameFunctionalGroupsSequence = groups
    seg.NumberOfFrames = len(frames)
    seg.BitsAllocated = seg.BitsStored = 8
    seg.HighBit = 7
    seg.PixelData = np.stack(frames).tobytes()
    return seg, label_map


@pytest.mark.parametrize("flipped", [False, True])
def test_frames_of_a_label_map_are_placed_by_position(source: SourceSeries, flipped: bool) -> None:
    seg, label_map = _label_map_seg(source, flipped)
    read = read_seg(seg, source.geometry)  # type: ignore[arg-type]
    assert np.array_equal(read.label_map, label_map)
    assert [one.name for one in read.segments] == ["N1 malignant", "N2 malignant"]


def test_a_seg_of_another_series_is_refused(source: SourceSeries) -> None:
    seg = write_seg(varied_nodules(source.geometry, 2), source, MODEL, new_place(1))
    x, y, z = source.geometry.origin_lps_mm
    other = Geometry(
        source.geometry.size_ijk,
        source.geometry.spacing_mm,
        (x + 0.5, y, z + 400.0),
        source.geometry.direction,
    )
    with pytest.raises(VolumeError, match="another series"):
        read_seg(seg, other)
    seg.SOPClassUID = generate_uid()
    with pytest.raises(VolumeError, match="no DICOM segmentation"):
        read_seg(seg, source.geometry)


def test_the_segment_of_all_frames_may_be_named_once(source: SourceSeries) -> None:
    """PS3.3 A.51.5.1: a functional group that is the same for all frames may be shared."""
    (nodule,) = varied_nodules(source.geometry, 1)
    seg = write_seg([nodule], source, MODEL, new_place(4))
    before = read_seg(seg, source.geometry)
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame in seg.PerFrameFunctionalGroupsSequence:
        shared.SegmentIdentificationSequence = frame.SegmentIdentificationSequence
        del frame.SegmentIdentificationSequence
    after = read_seg(seg, source.geometry)
    assert np.array_equal(before.label_map, after.label_map)


@pytest.mark.parametrize("group", ["PlanePosition", "SegmentIdentification", "PixelMeasures"])
def test_a_frame_that_does_not_say_where_it_lies_is_refused(
    source: SourceSeries, group: str
) -> None:
    seg = write_seg(varied_nodules(source.geometry, 1), source, MODEL, new_place(4))
    groups = *seg.PerFrameFunctionalGroupsSequence, *seg.SharedFunctionalGroupsSequence
    for one in groups:
        if f"{group}Sequence" in one:
            delattr(one, f"{group}Sequence")
    with pytest.raises(VolumeError, match=group):
        read_seg(seg, source.geometry)
