"""The interface through which a CT volume reads its voxels, and their conversion to HU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry

AIR_HU = -1024
"""The value of what lies outside the CT, and of voxels that are not finite."""

_INT16 = np.iinfo(np.int16)
_LUNG_HU = -500
"""A whole chest CT has lung or air below this."""
_PLAUSIBLE_HU = (-5000, 10000)
"""Beyond it lies neither tissue, nor metal, nor a scanner's padding value."""
_LEAST_SPREAD_HU = 50
"""Values that differ by less than this, and are not air, were normalised."""

_LUNG_RANGE_HU = (-950, -600)
_SOFT_RANGE_HU = (-150, 200)
_LEAST_LUNG = 0.005
"""A tenth of what a chest CT has in the field of view; the foam and skin of a head CT have less."""
_LEAST_SOFT = 0.005
"""A crop around a nodule in the middle of a lung has 1% and more."""
_SMALLEST_CHEST = 2**17
"""Voxels of the smallest volume that the histogram is looked at."""
_SAMPLED_VOXELS = 2**17
_CHEST = (
    "CHEST",
    "THORA",
    "HEART",
    "CARDI",
    "LUNG",
    "TORSO",
    "TRUNK",
    "WHOLE",
    "BODY",
    "TAP",
    "CAP",
)
"""Parts of names of body regions with lungs (PS3.16, annex L)."""
_ELSEWHERE = (
    *("HEAD", "BRAIN", "SKULL", "NECK", "SINUS", "ORBIT", "JAW", "FACE", "EAR", "CSPINE", "LSPINE"),
    *("ABDO", "PELVI", "LIVER", "KIDNEY", "COLON", "HIP", "KNEE", "LEG", "FOOT", "ANKLE", "THIGH"),
    *("ARM", "HAND", "WRIST", "ELBOW", "EXTREMITY", "TEMPORAL"),
)


class Slab(NamedTuple):
    """A part of a volume as its source reads it."""

    hu: NDArray[np.int16]
    """int16 [k, j, i], HU."""

    warnings: tuple[str, ...] = ()
    """What is wrong with these voxels."""


class VoxelSource(Protocol):
    """Voxels in HU on a known grid, read part by part, from any thread."""

    @property
    def geometry(self) -> Geometry:
        """The grid of the whole volume."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found wrong with the image as a whole when it was opened."""

    def read(self, start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]) -> Slab:
        """The voxels of a box that lies inside the grid."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Voxels in HU that are in memory, or in a memory-mapped file."""

    hu: NDArray[np.int16]
    """int16 [k, j, i], HU."""

    geometry: Geometry
    warnings: tuple[str, ...] = ()

    def read(self, start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]) -> Slab:
        """A copy of the voxels of a box inside the grid."""
        return Slab(np.array(self.hu[box_kji(start_ijk, size_ijk)]))


def box_kji(
    start_ijk: tuple[int, int, int], size_ijk: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """The slices that cut a box out of a [k, j, i] array.

    Example:
        >>> box_kji((1, 2, 3), (10, 10, 1))
        (slice(3, 4, None), slice(2, 12, None), slice(1, 11, None))
    """
    (i, j, k), (ni, nj, nk) = start_ijk, size_ijk
    return slice(k, k + nk), slice(j, j + nj), slice(i, i + ni)


def to_hu(
    values: NDArray[Any], slope: float = 1.0, intercept: float = 0.0
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Stored values as int16 HU: scaled, rounded, clipped to int16, air where not finite.

    Args:
        values: real numbers of any shape and type.
        slope: HU per stored unit.
        intercept: HU of the stored value 0.

    Returns:
        int16 HU of the same shape, and a warning where values were not finite.

    Example:
        >>> to_hu(np.array([0.0, 24.4, np.nan]), slope=2.0, intercept=-1024.0)
        (array([-1024,  -975, -1024], dtype=int16), ('1 of 3 voxels is not finite: read as air.',))
    """
    if slope == 1.0 and intercept == 0.0 and values.dtype == np.int16:
        return values.astype(np.int16), ()
    if _exact_in_int16(values, slope, intercept):
        # Modulo 2^16, so that what overflows on the way comes back.
        factor, offset = (np.int64(x).astype(np.int16) for x in (slope, intercept))
        hu = values.astype(np.int16)
        hu = hu if slope == 1.0 else hu * factor
        return hu + offset, ()
    scaled = values.astype(np.float64) * slope + intercept
    bad = ~np.isfinite(scaled)
    n_bad = int(np.count_nonzero(bad))
    scaled[bad] = AIR_HU
    hu16 = np.clip(np.rint(scaled), _INT16.min, _INT16.max).astype(np.int16)
    if not n_bad:
        return hu16, ()
    verb = "is" if n_bad == 1 else "are"
    return hu16, (f"{n_bad} of {values.size} voxels {verb} not finite: read as air.",)


def hu_warnings(hu: NDArray[np.int16], whole: bool = True) -> tuple[str, ...]:
    """What tells that voxel values are not Hounsfield units.

    Args:
        hu: int16 voxels of any shape, without padding.
        whole: they are a whole chest CT, which has lung; a crop may have none.

    Returns:
        No warning, or one.

    Example:
        >>> hu_warnings(np.array([0, 1024, 2000], np.int16))
        ('voxel values do not look like Hounsfield units: none is below 0 (0 to 2000)...',)
    """
    if hu.size == 0:
        return ()
    low, high = int(hu.min()), int(hu.max())
    reason = None
    step = sampling_step(hu.size)
    look = whole and hu.ndim == 3
    chest = chest_warnings(hu[::step, ::step, ::step], hu.size) if look else ()
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1]:
        reason = f"they reach beyond {list(_PLAUSIBLE_HU)}"
    elif low >= 0:
        reason = "none is below 0"
    elif low > _LUNG_HU and high - low < _LEAST_SPREAD_HU:
        reason = "they are almost all the same"
    elif whole and low >= _LUNG_HU:
        reason = f"none is below {_LUNG_HU}, so there is no lung"
    if reason is None:
        return chest
    return (
        f"voxel values do not look like Hounsfield units: {reason} ({low} to {high}); "
        "check the rescale slope and intercept.",
    )


def lung_share(hu: NDArray[np.int16]) -> float:
    """The share of voxels with the HU of aerated lung.

    Example:
        >>> lung_share(np.array([-1000, -850, 40, 40], np.int16))
        0.25
    """
    return float(np.mean((hu >= _LUNG_RANGE_HU[0]) & (hu <= _LUNG_RANGE_HU[1])))


def sampling_step(n_voxels: int) -> int:
    """Every how many voxels along each axis a volume is sampled for its histogram."""
    return max(1, round(math.pow(n_voxels / _SAMPLED_VOXELS, 1 / 3)))


def chest_warnings(sample: NDArray[np.int16], n_voxels: int) -> tuple[str, ...]:
    """What the histogram of a whole volume in HU tells against a CT of the chest.

    Args:
        sample: some of its voxels, evenly spread, HU.
        n_voxels: of the whole volume; nothing is said of small ones.

    Returns:
        No warning, or one: there is hardly any aerated lung, or hardly any soft tissue.
    """
    if n_voxels < _SMALLEST_CHEST:
        return ()
    lung = lung_share(sample)
    soft = float(np.mean((sample >= _SOFT_RANGE_HU[0]) & (sample <= _SOFT_RANGE_HU[1])))
    if lung >= _LEAST_LUNG and soft >= _LEAST_SOFT:
        return ()
    return (
        f"this does not look like a CT of the chest: {lung:.1%} of the voxels have the HU of "
        f"aerated lung {list(_LUNG_RANGE_HU)}, {soft:.1%} that of soft tissue "
        f"{list(_SOFT_RANGE_HU)}; what is said of nodules holds for the lungs only.",
    )


def region_warnings(body_part: str) -> tuple[str, ...]:
    """What BodyPartExamined tells against a CT of the chest.

    Example:
        >>> region_warnings("HEAD")
        ('BodyPartExamined is HEAD: this is not a CT of the chest...',)
        >>> region_warnings("CHEST_ABDOMEN"), region_warnings("")
        ((), ())
    """
    name = body_part.upper()
    if any(word in name for word in _CHEST) or not any(word in name for word in _ELSEWHERE):
        return ()
    return (
        f"BodyPartExamined is {body_part.strip()}: this is not a CT of the chest, and what is said "
        "of nodules holds for the lungs only.",
    )


def _exact_in_int16(values: NDArray[Any], slope: float, intercept: float) -> bool:
    """Whether whole numbers of 16 bits do: the usual case, and ten times faster than floats."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2 or values.size == 0:
        return False
    if not (float(slope).is_integer() and float(intercept).is_integer()):
        return False
    ends = [int(end) * slope + intercept for end in (values.min(), values.max())]
    return min(ends) >= _INT16.min and max(ends) <= _INT16.max
