"""Masks of strangers: what they claim is compared with the CT before their voxels are read."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.errors import VolumeError
from resmtnet.readings.formats.label_map_apart import read_label_map_apart
from resmtnet.readings.formats.mask_label import read_mask

CT = Geometry((64, 64, 64), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
SIDE = 1024
"""Voxels of a bomb along each axis."""


def nifti(path: Path) -> None:
    """1024 x 1024 x 1024 zeros in 1 MB."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, SIDE, SIDE, SIDE, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<h", header, 254, 1)
    struct.pack_into("<12f", header, 280, *(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0))
    header[344:348] = b"n+1\0"
    part = gzip.compress(bytes(2**24), mtime=0)
    path.write_bytes(gzip.compress(bytes(header)) + part * (SIDE**3 // 2**24))


def nrrd(path: Path) -> None:
    """The same as NRRD."""
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {SIDE} {SIDE} {SIDE}\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "kinds: domain domain domain\nendian: little\nencoding: gzip\nspace origin: (0,0,0)\n\n"
    )
    part = gzip.compress(bytes(2**24), mtime=0)
    path.write_bytes(head.encode() + part * (SIDE**3 // 2**24))


@pytest.mark.parametrize(("name", "write"), [("m.nii.gz", nifti), ("m.nrrd", nrrd)])
def test_a_mask_of_many_times_the_voxels_of_the_ct_is_refused_unread(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    write(path)
    assert path.stat().st_size < 1_100_000
    with pytest.raises(VolumeError, match=r"1,073,741,824 voxels and the CT 262,144; at most"):
        read_mask(path, {}, [], CT)


def test_a_mask_on_finer_voxels_than_the_ct_is_read(tmp_path: Path) -> None:
    import itk

    image = itk.image_from_array(np.ones((8, 8, 8), np.uint8))
    itk.imwrite(image, str(tmp_path / "m.nrrd"))
    small = Geometry((2, 2, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), np.eye(3))
    assert read_label_map_apart(tmp_path / "m.nrrd", small).mask.shape == (8, 8, 8)
