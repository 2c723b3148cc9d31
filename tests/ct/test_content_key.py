"""The key of an image changes when the image does, and only then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resmtnet.ct.content_key import FileKeys, downloaded_series_key, file_key, series_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ct.nii"
    file.write_bytes(bytes(range(256)) * 1000)
    os.utime(file, ns=(1, 1))
    return file


def test_the_same_file_has_the_same_key(path: Path) -> None:
    keys = FileKeys()
    assert keys.of(path) == keys.of(path) == file_key(path)


@pytest.mark.parametrize("at", [0, -1])
def test_a_change_at_an_end_of_the_file_changes_the_key(path: Path, at: int) -> None:
    before = file_key(path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert file_key(path) != before


def test_a_change_within_shows_in_the_time_of_change(path: Path) -> None:
    keys = FileKeys()
    before = keys.of(path)
    os.utime(path, ns=(2, 2))
    assert keys.of(path) != before


def test_another_size_changes_the_key(path: Path) -> None:
    keys = FileKeys()
    before = keys.of(path)
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(1, 1))
    assert keys.of(path) != before


def test_the_voxels_beside_a_header_count(tmp_path: Path) -> None:
    header, data = tmp_path / "ct.mhd", tmp_path / "voxels.raw"
    header.write_text("ObjectType = Image\nElementDataFile = voxels.raw\n")
    data.write_bytes(bytes(100))
    keys = FileKeys()
    before = keys.of(header)
    assert keys.of(header) == before
    data.write_bytes(bytes(99) + b"\1")
    assert keys.of(header) != before


def test_a_header_without_its_voxels_still_has_a_key(tmp_path: Path) -> None:
    header = tmp_path / "ct.mhd"
    header.write_text("ElementDataFile = gone.raw\n")
    assert file_key(header)


def test_images_and_their_sizes_make_the_key_of_a_series(tmp_path: Path) -> None:
    images = [("1.2.1", 10), ("1.2.2", 20)]
    for uid, size in images:
        (tmp_path / f"{uid}.dcm").write_bytes(bytes(size))
    assert downloaded_series_key(tmp_path) == series_key(images)
    assert series_key([("1.2.1", 10), ("1.2.2", 21)]) != series_key(images)
    assert series_key([("1.2.1", 10), ("1.2.3", 20)]) != series_key(images)
