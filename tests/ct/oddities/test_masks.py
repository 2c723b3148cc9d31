"""Masks as viewers and scripts save them: each class where it was drawn, or refused."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from odd_files import ball, write_nifti, write_seg_nrrd
from resmtnet.ct.geometry import Geometry
from resmtnet.errors import VolumeError
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.readings.formats.label_map import grid_warnings, read_label_map
from resmtnet.readings.formats.mask_label import read_mask

SHAPE = (40, 50, 60)
FIRST, SECOND = ball(SHAPE, (15, 15, 15), 6), ball(SHAPE, (42, 34, 26), 5)
RIGHT = {(15, 15, 15): "malignant", (42, 34, 26): "benign"}
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def classes(path: Path, named: list[dict[str, object]] | None = None) -> dict[object, object]:
    """Class by place, LPS mm; the places are voxel indices here."""
    drafts = read_mask(path, {"label_info": named}, []).drafts
    return {tuple(round(x) for x in draft.centre_lps_mm): draft.class_name for draft in drafts}


def names(*said: tuple[str, ...]) -> dict[str, str]:
    """Fields of segments, each (name, label value, layer); "" leaves a field out."""
    fields = {}
    for n, (name, value, layer) in enumerate(said):
        fields |= {f"Segment{n}_ID": f"S{n}", f"Segment{n}_Name": name}
        fields |= {f"Segment{n}_LabelValue": value} if value else {}
        fields |= {f"Segment{n}_Layer": layer} if layer else {}
    return fields


@pytest.mark.parametrize(
    ("layers", "fields"),
    [
        # Slicer up to 4.10: a layer for each segment, and no field that says so
        ([FIRST, SECOND], names(("malignant", "", ""), ("benign", "", ""))),
        ([FIRST, SECOND], names(("malignant", "1", ""), ("benign", "1", ""))),
        ([SECOND, FIRST], names(("malignant", "1", "1"), ("benign", "1", "0"))),
        ([FIRST + 2 * SECOND, 0 * FIRST], names(("malignant", "1", "0"), ("benign", "2", "0"))),
        ([FIRST + 2 * SECOND], names(("malignant", "1", "0"), ("benign", "2", "0"))),
        ([FIRST + 2 * SECOND], names(("malignant", "1", ""), ("benign", "2", ""))),
        ([200 * FIRST + 130 * SECOND], names(("malignant", "200", ""), ("benign", "130", ""))),
    ],
)
def test_a_segment_has_the_voxels_that_slicer_gives_it(
    tmp_path: Path, layers: list[np.ndarray], fields: dict[str, str]
) -> None:
    assert classes(write_seg_nrrd(tmp_path / "m.seg.nrrd", layers, fields)) == RIGHT


@pytest.mark.parametrize(
    ("layers", "fields", "message"),
    [
        ([FIRST + 2 * SECOND], names(("a", "", ""), ("b", "", "")), "which voxels are whose"),
        ([FIRST, SECOND], names(("a", "1", "0"), ("b", "1", "0")), "which voxels are whose"),
        ([FIRST, SECOND], names(("a", "1", "0"), ("b", "1", "7")), "layer 7; the file has 2"),
        ([FIRST], names(("a", "0", "0")), "0 is the background"),
        ([FIRST], names(("a", "one", "0")), "LabelValue of the segment 'a' is 'one'"),
        ([FIRST], names(("a", "1", "-1")), "Layer of the segment 'a' is '-1'"),
    ],
)
def test_a_segment_whose_voxels_are_not_clear_is_refused(
    tmp_path: Path, layers: list[np.ndarray], fields: dict[str, str], message: str
) -> None:
    with pytest.raises(VolumeError, match=message):
        read_label_map(write_seg_nrrd(tmp_path / "m.seg.nrrd", layers, fields))


def test_voxels_of_no_named_segment_are_told(tmp_path: Path) -> None:
    fields = names(("malignant", "1", "0"))
    path = write_seg_nrrd(tmp_path / "m.seg.nrrd", [FIRST, SECOND], fields)
    assert any("belong to no segment" in text for text in read_label_map(path).warnings)


def test_a_segment_name_that_is_no_utf_8_does_not_stop_the_reading(tmp_path: Path) -> None:
    path = write_seg_nrrd(tmp_path / "m.seg.nrrd", [FIRST], names(("malignant XX", "1", "0")))
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xff\xfe", 1))
    assert list(read_label_map(path).segments[0]["name"].encode("ascii", "ignore")) == list(
        b"malignant "
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
@pytest.mark.parametrize("values", [(40000, 33000), (65535, 32768), (2, 1)])
def test_label_values_of_16_bits_keep_their_names(
    tmp_path: Path, suffix: str, dtype: type, values: tuple[int, int]
) -> None:
    mask = (values[0] * FIRST + values[1] * SECOND).astype(dtype)
    path = tmp_path / f"m{suffix}"
    if suffix.startswith(".nii"):
        nib.save(nib.Nifti1Image(mask.T, TO_RAS), path)
    else:
        itk.imwrite(itk.image_from_array(mask), str(path), compression=True)
    named = [{"name": "malignant", "idx": values[0]}, {"name": "benign", "idx": values[1]}]
    assert classes(path, named) == RIGHT


CT = Geometry((60, 50, 40), (0.7, 0.7, 1.25), (-20.0, -30.0, 5.0), np.eye(3))


@pytest.mark.parametrize(
    "grid",
    [
        Geometry((60, 50, 40), (1, 1, 1), (0, 0, 0), np.eye(3)),
        Geometry((60, 50, 40), (0.7, 0.7, 1.25), (-20, -30, 45), np.eye(3)),
        Geometry((60, 50, 40), (0.7, 0.7, 1.25), (0, 0, 0), np.diag([-1, -1, 1])),
        Geometry((40, 50, 60), (1.25, 0.7, 0.7), (-20, -30, 5), np.eye(3)),
    ],
)
def test_a_mask_of_the_ct_s_size_elsewhere_has_lost_its_geometry(grid: Geometry) -> None:
    with pytest.raises(VolumeError, match="lost its geometry"):
        grid_warnings(grid, CT)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (CT, None),
        (Geometry(CT.size_ijk, CT.spacing_mm, (-20, -30, 5.0001), np.eye(3)), None),
        (CT.sub((10, 10, 10), (20, 20, 20)), None),
        (
            Geometry((60, 50, 40), CT.spacing_mm, (21.3, 4.3, 5.0), np.diag([-1.0, -1.0, 1.0])),
            None,
        ),
        (
            Geometry((40, 50, 60), (1.25, 0.7, 0.7), CT.origin_lps_mm, np.eye(3)[:, [2, 1, 0]]),
            None,
        ),
        (Geometry((30, 30, 30), (1, 1, 1), (-10, -20, 10), np.eye(3)), "on other voxels"),
        (CT.sub((50, 10, 10), (20, 20, 20)), "goes beyond the CT"),
    ],
)
def test_a_mask_on_the_voxels_of_the_ct_is_taken_as_it_is(grid: Geometry, told: str | None) -> None:
    warnings = grid_warnings(grid, CT)
    assert (told in warnings[0]) if told else warnings == ()


def test_a_mask_without_spacing_or_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    voxels = FIRST.astype(np.uint8)
    bare = tmp_path / "bare.nrrd"
    head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 60 50 40\nencoding: raw\n\n"
    bare.write_bytes(head.encode() + voxels.tobytes())
    with pytest.raises(VolumeError, match="spacing"):
        read_label_map(bare)
    path = tmp_path / "m.mha"
    itk.imwrite(itk.image_from_array(voxels), str(path), compression=True)
    data = bytearray(path.read_bytes())
    data[-2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(VolumeError, match="damaged"):
        read_label_map(path)
    nifti = write_nifti(tmp_path / "m.nii.gz", voxels.astype(np.int16), TO_RAS)
    raw = bytearray(gzip.compress(gzip.decompress(nifti.read_bytes())))
    raw[-5] ^= 0xFF
    nifti.write_bytes(raw)
    with pytest.raises(VolumeError, match=r"m\.nii\.gz"):
        read_label_map(nifti)


def test_the_studies_folder_lists_every_case_of_a_suffix_and_no_hidden_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voxels = np.full((4, 8, 8), -850, np.int16)
    for name in ("A.NII.GZ", "b.nii", "D.Nii", "._b.nii", ".hidden.nrrd"):
        (tmp_path / name).write_bytes(b"")
    write_nifti(tmp_path / "two.nii.gz", voxels)
    write_nifti(tmp_path / "two.nii", voxels)
    (tmp_path / "C.nhdr").write_text("")
    with caplog.at_level(logging.WARNING):
        store = StudiesDatastore(str(tmp_path), auto_reload=False)
    assert sorted(store.list_images()) == ["A", "C", "D", "b", "two"]
    assert "Files of one name end in .nii and .nii.gz" in caplog.text
    assert "two" not in caplog.text
    assert Path(store.volume_path("A")).name == "A.NII.GZ"
