"""A small archive of synthetic nodules: balls in noise, read by three readers."""

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.data import archive
from resmtnet.data.archive import Archive, Nodule


def ball(n: int, context: str = "none") -> tuple[Nodule, np.ndarray, np.ndarray]:
    radius, rng = 3.0 + n % 4, np.random.default_rng(n)
    spacing = (2.0, 0.8, 0.8)
    z, y, x = (np.arange(s) - (s - 1) / 2 for s in (9, 60, 60))
    distance = np.sqrt(
        (z * 2)[:, None, None] ** 2 + (y * 0.8)[None, :, None] ** 2 + (x * 0.8)[None, None] ** 2
    )
    mask = ((distance <= radius) * 255).astype(np.uint8)
    hu = np.where(mask > 0, 30, -850) + rng.normal(0, 20, mask.shape)
    kept = mask.any((1, 2)) if context == "none" else np.ones(9, bool)
    hu, mask = hu[kept].round().astype(np.int16), mask[kept]
    malignancy = (1, 2, 2) if n % 2 else (4, 5, 4)
    ratings = {t.name: (1, 1, 2) for t in LIDC_RATINGS} | {"malignancy": malignancy}
    nodule = Nodule(
        id=f"N{n}",
        patient_id=f"P{n // 2}",
        split="val" if n >= 20 else "train",
        fold=n // 2 % 5,
        context=context,
        shape_kji=mask.shape,
        spacing_kji_mm=spacing,
        centre_kji=tuple((s - 1) / 2 for s in mask.shape),
        slice_thickness_mm=2.0,
        volume_mm3=float(4 / 3 * np.pi * radius**3),
        long_axis_mm=2 * radius,
        ratings=ratings,
    )
    return replace(nodule), hu, mask


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory) -> Archive:
    path = tmp_path_factory.mktemp("archive") / "balls"
    archive.write(path, (ball(n) for n in range(24)), {"data": "synthetic balls"})
    return Archive.open(path)
