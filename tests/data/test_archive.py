"""The archive gives back what was written, and refuses what is damaged."""

import csv
import json
import math
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest

from resmtnet.data import archive
from resmtnet.data.archive import Archive, Nodule
from resmtnet.errors import ArchiveError, InputError

SCHEMA_1 = {
    "id",
    "patient_id",
    "split",
    "fold",
    "context",
    "shape_kji",
    "spacing_kji_mm",
    "centre_kji",
    "slice_thickness_mm",
    "volume_mm3",
    "long_axis_mm",
    "offset",
}


def test_what_was_written_is_read(small_archive, tmp_path):
    crops = [
        (n, small_archive.voxels_hu(n), small_archive.mask(n)) for n in small_archive.nodules[:3]
    ]
    archive.write(tmp_path / "copy", crops, {"data": "copy"})
    copy = Archive.open(tmp_path / "copy", verify=True)
    assert copy.nodules == small_archive.nodules[:3]
    assert copy.provenance == {"data": "copy"}
    for nodule, hu, mask in crops:
        np.testing.assert_array_equal(copy.voxels_hu(nodule), hu)
        np.testing.assert_array_equal(copy.mask(nodule), mask)


@pytest.fixture
def copy(small_archive, tmp_path):
    crops = ((n, small_archive.voxels_hu(n), small_archive.mask(n)) for n in small_archive.nodules)
    archive.write(tmp_path / "copy", crops, {})
    return tmp_path / "copy"


def test_a_changed_voxel_is_noticed(copy):
    data = bytearray((copy / "voxels.npy").read_bytes())
    data[-1] ^= 1
    (copy / "voxels.npy").write_bytes(data)
    Archive.open(copy)
    with pytest.raises(ArchiveError, match=r"voxels\.npy is damaged"):
        Archive.open(copy, verify=True)


def test_a_missing_file_is_named(copy):
    (copy / "masks.npy").unlink()
    with pytest.raises(ArchiveError, match=r"masks\.npy is missing"):
        Archive.open(copy)


def test_another_version_is_refused(copy):
    head = json.loads((copy / "archive.json").read_text())
    (copy / "archive.json").write_text(json.dumps(head | {"schema": "resmtnet.archive/9"}))
    with pytest.raises(ArchiveError, match="archive/9"):
        Archive.open(copy)


def test_a_folder_that_is_no_archive_says_how_to_make_one(tmp_path):
    with pytest.raises(ArchiveError, match="resmtnet prepare"):
        Archive.open(tmp_path)


def test_an_empty_source_leaves_nothing_behind(tmp_path):
    with pytest.raises(ArchiveError, match="no usable nodule"):
        archive.write(tmp_path / "none", [], {})
    assert not list(tmp_path.iterdir())


def test_a_source_that_fails_leaves_the_old_archive(copy):
    def failing():
        archive_of = Archive.open(copy)
        yield (
            archive_of.nodules[0],
            archive_of.voxels_hu(archive_of.nodules[0]),
            archive_of.mask(archive_of.nodules[0]),
        )
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        archive.write(copy, failing(), {})
    assert len(Archive.open(copy, verify=True).nodules) == 24


def test_a_folder_of_something_else_is_left_alone(small_archive, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    nodule = small_archive.nodules[0]
    crop = (nodule, small_archive.voxels_hu(nodule), small_archive.mask(nodule))
    with pytest.raises(InputError, match="not replaced"):
        archive.write(tmp_path, [crop], {})
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_is_unknown_stays_unknown(small_archive, tmp_path):
    nodule = replace(
        small_archive.nodules[0],
        volume_mm3=math.nan,
        long_axis_mm=math.nan,
        ratings={"malignancy": (4, 0, 5)},
        mask_readers=0,
    )
    crop = (nodule, small_archive.voxels_hu(nodule), small_archive.mask(nodule))
    archive.write(tmp_path / "one", [crop], {})
    (read,) = Archive.open(tmp_path / "one").nodules
    assert math.isnan(read.volume_mm3)
    assert math.isnan(read.long_axis_mm)
    assert math.isnan(read.short_axis_mm)
    assert math.isnan(read.equivalent_diameter_mm)
    assert (read.reader_dice, read.malignant_label, read.centre_lps_mm) == (None, None, None)
    assert read.mask_readers == 0
    assert read.ratings["malignancy"] == (4, 0, 5)
    assert read.malignancy == (4, 5)
    assert read.given("texture") == ()


def test_every_field_of_a_nodule_survives(small_archive, tmp_path):
    full = replace(
        small_archive.nodules[0],
        reader_volumes_mm3=(110.5, 120.25),
        reader_long_axes_mm=(6.5, 7.0),
        reader_short_axes_mm=(5.0, 5.5),
        reader_dice=0.81,
        mask_readers=2,
        malignant_label=1,
        series_uid="1.2.3",
        centre_lps_mm=(-75.5, 5.0, 20.25),
    )
    crop = (full, small_archive.voxels_hu(full), small_archive.mask(full))
    archive.write(tmp_path / "one", [crop], {})
    (read,) = Archive.open(tmp_path / "one").nodules
    assert read == full
    assert read.short_axis_mm == 5.25
    assert read.mean_diameter_mm == pytest.approx((full.long_axis_mm + 5.25) / 2)


def test_an_archive_of_schema_1_is_read_with_the_new_columns_unknown(copy):
    new = {f.name for f in fields(Nodule)} - SCHEMA_1 - {"ratings"}
    with (copy / "nodules.csv").open(newline="") as file:
        rows = [
            {name: text for name, text in row.items() if name not in new}
            for row in csv.DictReader(file)
        ]
    with (copy / "nodules.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    head = json.loads((copy / "archive.json").read_text())
    (copy / "archive.json").write_text(json.dumps(head | {"schema": "resmtnet.archive/1"}))
    nodules = Archive.open(copy).nodules
    assert [n.malignancy for n in nodules[:2]] == [(4, 5, 4), (1, 2, 2)]
    assert {n.mask_readers for n in nodules} == {None}
    assert {n.reader_volumes_mm3 for n in nodules} == {()}


def test_a_row_that_cannot_be_read_names_its_nodule(copy):
    table = (copy / "nodules.csv").read_text()
    (copy / "nodules.csv").write_text(table.replace("N3,P1,train,1,", "N3,P1,train,one,"))
    with pytest.raises(ArchiveError, match=r"nodule 'N3' cannot be read .*'one'"):
        Archive.open(copy)


def test_voxels_that_do_not_fit_their_nodule_are_refused(small_archive, tmp_path):
    nodule = small_archive.nodules[0]
    hu = small_archive.voxels_hu(nodule)
    with pytest.raises(ArchiveError, match=r"nodule N0: voxels .* and mask"):
        archive.write(tmp_path / "one", [(nodule, hu, small_archive.mask(nodule)[1:])], {})


def test_an_archive_is_written_crop_by_crop(small_archive, tmp_path):
    """No more than one crop is held, and what numpy reads is what was written."""
    alive = []

    def crops():
        for nodule in small_archive.nodules[:5]:
            hu = np.array(small_archive.voxels_hu(nodule))
            alive.append(weakref.ref(hu))
            assert sum(crop() is not None for crop in alive) <= 2
            yield nodule, hu, small_archive.mask(nodule)
            del hu

    archive.write(tmp_path / "stream", crops(), {})
    voxels = np.load(tmp_path / "stream" / "voxels.npy")
    expected = [small_archive.voxels_hu(n).ravel() for n in small_archive.nodules[:5]]
    np.testing.assert_array_equal(voxels, np.concatenate(expected))


def test_the_last_word_on_the_nodules_is_that_of_finish(small_archive, tmp_path):
    nodule = small_archive.nodules[0]
    crop = (nodule, small_archive.voxels_hu(nodule), small_archive.mask(nodule))
    written = archive.write(
        tmp_path / "one", [crop], {}, lambda nodules: [replace(n, fold=7) for n in nodules]
    )
    assert [n.fold for n in written] == [7]
    assert Archive.open(tmp_path / "one").nodules == written
