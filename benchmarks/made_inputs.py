"""Synthetic inputs: phantom nodules, noise, and values that are no HU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from perturbations import Click
from resmtnet import CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom
from resmtnet.types import Array

AT_LPS_MM = (-75.0, 0.0, 20.0)
"""In the phantom's right lung."""
BOX_KJI = (96, 80, 80)
"""Voxels of 1 mm around it: what a patch and a mask of 25 mm can reach."""
EDGE = 64
"""Voxels (1 mm) of a volume of noise along each axis."""
HU_RANGE = (-1024, 3071)


def phantom_nodule(
    seed: int, diameter_mm: float, texture: str = "solid"
) -> tuple[Click, NDArray[np.bool_]]:
    """Return a nodule in a box of phantom lung, clicked at its centre, and its true mask."""
    spec = NoduleSpec(diameter_mm, texture, lobulation=0.3, centre_lps_mm=AT_LPS_MM)
    made = make_phantom(seed, BOX_KJI, (1.0, 1.0, 1.0), [spec], centre_lps_mm=AT_LPS_MM)
    grid = made.geometry
    name = f"{texture} {diameter_mm:g} mm"
    ct = CTVolume.from_array(made.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, image_id=name)
    return (ct, AT_LPS_MM), made.label_map() == 1


def no_nodules(nodules: Sequence[Click], count: int, seed: int) -> dict[str, list[Click]]:
    """Return inputs that are no CT of a nodule, by kind.

    Args:
        nodules: real ones, for the kinds that only change their HU.
        count: of each other kind.
        seed: of the noise.
    """
    generator = np.random.default_rng(seed)
    shape = (EDGE,) * 3
    white = [
        generator.normal(generator.uniform(-900, 100), generator.uniform(50, 400), shape)
        for _ in range(count)
    ]
    smooth = [gaussian_filter(generator.normal(size=shape), 2) for _ in range(count)]
    return {
        "white noise": [_volume(hu) for hu in white],
        "smooth noise": [_volume(250 * hu / hu.std() - 600) for hu in smooth],
        "constant": [_volume(np.full(shape, hu)) for hu in np.linspace(-1024, 400, count)],
        "HU upside down": [_remapped(click, lambda hu: -600 - hu) for click in nodules],
        "MR-like intensities": [
            _remapped(click, lambda hu: 0.43 * (hu + 1000)) for click in nodules
        ],
    }


def _volume(hu: Array) -> Click:
    middle = (EDGE - 1) / 2
    return CTVolume.from_array(_whole(hu), (1, 1, 1)), (middle, middle, middle)


def _remapped(click: Click, change: Callable[[Array], Array]) -> Click:
    ct, point = click
    grid = ct.geometry
    hu = _whole(change(ct.array().astype(float)))
    return CTVolume.from_array(hu, grid.spacing_mm[::-1], grid.origin_lps_mm), point


def _whole(hu: Array) -> NDArray[np.int16]:
    return np.clip(hu, *HU_RANGE).round().astype(np.int16)
