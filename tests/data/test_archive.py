"""The archive gives back what was written, and refuses what is damaged."""

import json

import numpy as np
import pytest

from resmtnet.data import archive
from resmtnet.data.archive import Archive
from resmtnet.errors import ArchiveError, InputError


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
