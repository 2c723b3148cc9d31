"""Strata of nodules by what is predicted of them: size band x texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE_CUTS_MM = (6.0, 8.0, 15.0)
"""Between the size bands: where Lung-RADS changes its category of a solid nodule."""
TEXTURE_CUTS = (2.5, 3.9)
"""Predicted ratings between non-solid, part-solid and solid; predictions shrink towards solid,
the most frequent, so that a nodule of rating 4 is predicted below it as often as above."""
_TEXTURES = ("non-solid", "part-solid", "solid")


def strata(diameter_mm: NDArray[np.float64], texture: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of the stratum of each nodule.

    Args:
        diameter_mm: [N] predicted equivalent diameter; NaN counts as the smallest.
        texture: [N] predicted rating, 1..5; NaN counts as solid.

    Returns:
        [N] numbers from 0 on; `stratum_name` says what they are.

    >>> strata(np.array([5.0, 20.0]), np.array([5.0, 1.0])).tolist()
    [2, 9]
    """
    mm = np.nan_to_num(np.asarray(diameter_mm, float), nan=0.0)
    rating = np.nan_to_num(np.asarray(texture, float), nan=5.0)
    bands = np.digitize(mm, SIZE_CUTS_MM)
    return np.asarray(bands * len(_TEXTURES) + np.digitize(rating, TEXTURE_CUTS), np.intp)


def stratum_name(number: int) -> str:
    """Return the name of a stratum.

    >>> stratum_name(2), stratum_name(9)
    ('solid, below 6 mm', 'non-solid, from 15 mm')
    """
    band, texture = divmod(int(number), len(_TEXTURES))
    low, high = (None, *SIZE_CUTS_MM, None)[band : band + 2]
    size = f"below {high:g} mm" if low is None else f"from {low:g} mm"
    return f"{_TEXTURES[texture]}, " + (f"{low:g} to {high:g} mm" if low and high else size)
