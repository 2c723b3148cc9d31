"""A key of what a CT shows and where, the same for every file that holds these voxels."""

from __future__ import annotations

import hashlib

import numpy as np

from resmtnet.ct.volume import CTVolume


def voxel_key(ct: CTVolume) -> str:
    """Return the key; all voxels are read.

    >>> one = CTVolume.from_array(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0))
    >>> voxel_key(one) == voxel_key(one), voxel_key(one)[:7]
    (True, 'voxels:')
    """
    grid = ct.geometry
    places = grid.ijk_to_lps(np.array([[0, 0, 0], grid.size_ijk])).round(2)
    digest = hashlib.sha256(repr((grid.size_ijk, places.tolist())).encode())
    digest.update(np.ascontiguousarray(ct.array(), "<i2").data)
    return f"voxels:{digest.hexdigest()}"
