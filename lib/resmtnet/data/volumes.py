"""Turns a nodule of an archive back into a small CT, so that the model reads it as any other."""

from __future__ import annotations

import numpy as np
import torch

from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.crops import load_crop

CONTINUATION_SEED = 1


def nodule_ct(
    archive: Archive, nodule: Nodule, seed: int = CONTINUATION_SEED
) -> tuple[CTVolume, tuple[float, float, float]]:
    """Return a nodule's crop as a CT whose origin is the nodule's centre.

    Args:
        archive: holds the voxels.
        nodule: one of it; a crop without context is continued beyond its ends.
        seed: of that continuation.

    Returns:
        The CT and the centre, (0, 0, 0) LPS mm.
    """
    crop = load_crop(archive, nodule, torch.Generator().manual_seed(seed))
    spacing_kji_mm = nodule.spacing_kji_mm
    centre_ijk = crop.affine[:, 3].numpy().astype(float)
    x, y, z = (float(v) for v in -centre_ijk * np.array(spacing_kji_mm[::-1]))
    ct = CTVolume.from_array(crop.hu, spacing_kji_mm, (x, y, z), image_id=nodule.id)
    return ct, (0.0, 0.0, 0.0)
