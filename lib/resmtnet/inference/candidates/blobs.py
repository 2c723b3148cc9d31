"""Blobs of one size and what they look like: Laplacian of Gaussian, then rays from each maximum.

References:
    Lindeberg, Feature detection with automatic scale selection, IJCV 30 (1998): the response to
    a ball of diameter d is greatest at sigma = d / (2 sqrt 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from resmtnet.inference.candidates.grid import Array32, SearchGrid
from resmtnet.inference.candidates.lungs import LungRegion

Points = NDArray[np.float64]

_LEAST_RESPONSE_HU = 50.0
_LEAST_CONTRAST_HU = 100.0
_FULL_CONTRAST_HU = 500.0
"""From here on more contrast is no more of a nodule: ground glass must not rank far below."""
_HALF_SCORE_MM = 4.0
"""Diameter at which a blob counts half: small ones are vessels more often."""

_RAYS = 120
_REACH = np.linspace(0.0, 2.5, 21)[1:]
"""Samples along a ray, in radii of the blob."""
_FREE_REACH = 1.6
"""A ray that is still in tissue here, in radii, runs along a vessel."""


@dataclass(frozen=True)
class Candidate:
    """A place that may be a nodule; nobody confirmed it."""

    centre_lps_mm: tuple[float, float, float]
    """Centre of mass of what the rays cross."""

    score: float
    """0 to 1, for ranking: contrast, roundness, size and how much of it borders on air."""

    diameter_mm: float
    """Of the ball of the same volume, to about 2 mm; the core only of a part-solid one."""


def blobs_of_size(region: LungRegion, diameter_mm: float, peaks: int = 250) -> list[Candidate]:
    """Candidates of about one diameter, in no order; neighbouring sizes may find the same one.

    Args:
        region: lungs in voxels of a third of the diameter or less.
        diameter_mm: of the ball searched for.
        peaks: how many of the strongest maxima are looked at; the rest are small vessels.
    """
    peaks_kji = _peaks(region.grid, diameter_mm, peaks)
    return _judge(region, peaks_kji, diameter_mm / 2) if len(peaks_kji) else []


def _peaks(grid: SearchGrid, diameter_mm: float, most: int) -> NDArray[np.int64]:
    """Maxima (n, 3) of the scale-normalised response, indices k, j, i, the strongest first."""
    spacing_kji = np.asarray(grid.geometry.spacing_mm[::-1])
    sigma = diameter_mm / (2 * math.sqrt(3)) / spacing_kji
    smooth = ndimage.gaussian_filter(grid.hu, sigma, mode="nearest", truncate=3.0)
    response = np.zeros_like(smooth)
    for axis in range(3):
        weights = np.array([-1.0, 2.0, -1.0]) * sigma[axis] ** 2
        response += ndimage.correlate1d(smooth, weights, axis=axis, mode="nearest")
    is_peak = response == ndimage.maximum_filter(response, size=3, mode="nearest")
    is_peak &= response > _LEAST_RESPONSE_HU
    strongest = np.argsort(-response[is_peak], kind="stable")[:most]
    peaks: NDArray[np.int64] = np.argwhere(is_peak)[strongest]
    return peaks


def _judge(region: LungRegion, peaks_kji: NDArray[np.int64], radius_mm: float) -> list[Candidate]:
    """Measures blobs where rays leave their tissue; without those that hardly contrast."""
    geometry = region.grid.geometry
    offsets: Points = _RAY_SAMPLES * radius_mm / np.asarray(geometry.spacing_mm[::-1])
    samples_kji = offsets + peaks_kji[:, None, None].astype(np.float64)
    hu = _sample(region.grid.hu, samples_kji)
    inner_hu = hu[..., _REACH <= 0.5].mean((1, 2))
    outer_hu = np.percentile(hu[..., _REACH >= 1.5], 25, (1, 2))
    contrast_hu = inner_hu - outer_hu
    left = hu < ((inner_hu + outer_hu) / 2)[:, None, None]
    ends = np.where(left.any(-1), left.argmax(-1), len(_REACH) - 1)
    end_kji = np.rint(np.take_along_axis(samples_kji, ends[..., None, None], 2)[:, :, 0])
    end_kji = end_kji.astype(int).clip(0, np.asarray(region.inside.shape) - 1)
    free = (_REACH[ends] < _FREE_REACH) & region.inside[tuple(np.moveaxis(end_kji, -1, 0))]
    found = []
    for n in np.flatnonzero(contrast_hu >= _LEAST_CONTRAST_HU):
        shape = _Shape.of((_REACH[ends[n]] - _REACH[0] / 2) * radius_mm)
        x, y, z = geometry.ijk_to_lps(peaks_kji[n, ::-1]) + geometry.direction @ shape.centre_mm
        score = (
            math.sqrt(min(contrast_hu[n] / _FULL_CONTRAST_HU, 1.0))
            * shape.roundness
            * float(free[n].mean()) ** 2
            * shape.diameter_mm
            / (shape.diameter_mm + _HALF_SCORE_MM)
        )
        found.append(Candidate((float(x), float(y), float(z)), score, shape.diameter_mm))
    return found


def _sample(hu: Array32, points_kji: Points) -> Array32:
    """Linear interpolation at (..., 3) indices."""
    coordinates = np.moveaxis(points_kji, -1, 0)
    return np.asarray(ndimage.map_coordinates(hu, coordinates, order=1, mode="nearest"))


def _directions(count: int) -> Points:
    """Nearly even unit vectors (count, 3), i, j, k: a Fibonacci spiral."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    flat = np.sqrt(1 - z * z)
    return np.column_stack([flat * np.cos(angle), flat * np.sin(angle), z])


_DIRECTIONS = _directions(_RAYS)
_RAY_SAMPLES: Points = (_DIRECTIONS[:, None] * _REACH[:, None])[..., ::-1]
"""(rays, samples, 3), k, j, i: offsets from the peak in radii."""


@dataclass(frozen=True, eq=False)
class _Shape:
    """Moments of the star-shaped body that the rays span."""

    diameter_mm: float
    """Of the ball of the same volume."""
    centre_mm: Points
    """(3,) from the start of the rays, along the axes of the grid."""
    roundness: float
    """1 for a ball, towards 0 for a vessel or a sheet."""

    @classmethod
    def of(cls, lengths_mm: Points) -> _Shape:
        """The body spanned by the rays of `_DIRECTIONS`, with their lengths.

        >>> ball = _Shape.of(np.full(_RAYS, 5.0))
        >>> round(ball.diameter_mm, 2), round(ball.roundness, 1)
        (10.0, 1.0)
        """
        cubes = float(np.mean(lengths_mm**3))
        centre = 0.75 * np.mean(_DIRECTIONS * lengths_mm[:, None] ** 4, axis=0) / cubes
        second = (_DIRECTIONS * lengths_mm[:, None] ** 5).T @ _DIRECTIONS
        spread = np.linalg.eigvalsh(second)
        return cls(2 * cubes ** (1 / 3), centre, math.sqrt(max(spread[0], 0.0) / spread[2]))
