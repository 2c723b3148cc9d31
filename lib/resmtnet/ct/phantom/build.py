"""Builds the phantom from one seed: chest, vessels, airways, nodules, blur and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.phantom.chest import AIR_HU, BLOOD_HU, BODY_DEPTH_MM, AnyArray, Chest
from resmtnet.ct.phantom.nodule import (
    GROUND_GLASS_HU,
    HALO_HU,
    SOLID_HU,
    NoduleShape,
    NoduleSpec,
    PhantomNodule,
)
from resmtnet.ct.phantom.vessels import Tube, add_tubes, bronchi, grow_vessels, large_airways
from resmtnet.errors import InputError
from resmtnet.types import Point

DEFAULT_NODULES = (
    NoduleSpec(18.0, "solid", spiculation=0.9, lobulation=0.4),
    NoduleSpec(7.0, "solid"),
    NoduleSpec(15.0, "part-solid", lobulation=0.5, solid_fraction=0.5),
    NoduleSpec(12.0, "non-solid", lobulation=0.3),
)
"""Nodules of make_phantom if none are asked for."""

_WALL_DISTANCE_MM = 5.0
_PLACE_TRIES = 4000
_FEW_VESSELS = 0.02
"""Share of the surroundings of a nodule that vessels may fill."""
_AIRWAY_WALL_HU, _LUMEN_HU = 10.0, -985.0
_HU_RANGE = (-1024, 3071)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic chest CT and what is true of it."""

    hu: AnyArray
    """int16 [k, j, i], -1024 to 3071."""
    geometry: Geometry
    nodules: tuple[PhantomNodule, ...]
    seed: int

    def label_map(self) -> AnyArray:
        """Return uint8 [k, j, i]: n in the voxels of the n-th nodule, counted from 1."""
        labels = np.zeros(self.hu.shape, dtype=np.uint8)
        for value, nodule in enumerate(self.nodules, start=1):
            i, j, k = nodule.start_ijk
            nk, nj, ni = nodule.mask.shape
            labels[k : k + nk, j : j + nj, i : i + ni][nodule.mask] = value
        return labels


def make_phantom(
    seed: int = 0,
    shape_kji: tuple[int, int, int] = (180, 320, 320),
    spacing_mm: tuple[float, float, float] = (1.25, 1.0, 1.0),
    nodules: Sequence[NoduleSpec] | None = None,
    noise_hu: float = 22.0,
    *,
    centre_lps_mm: Point = (4.0, -6.0, -7.0),
    psf_fwhm_mm: float = 0.7,
) -> Phantom:
    """Return a synthetic chest CT with known nodules; the same seed gives the same voxels.

    Args:
        seed: of the person, the vessels, the nodules' places and shapes, and the noise.
        shape_kji: number of slices, rows, columns.
        spacing_mm: (dz, dy, dx); dz is the thickness of the slices as well.
        nodules: what to put in; None: DEFAULT_NODULES; () for none.
        noise_hu: standard deviation of the noise, HU.
        centre_lps_mm: middle of the volume; (0, 0, 0) is the middle of the chest, and a small
            volume around (-75, 0, 20) lies in the right lung.
        psf_fwhm_mm: full width at half maximum of the in-plane blur.

    Raises:
        InputError: a nodule that lies outside the volume, or for which a lung has no room.
    """
    for_chest, for_vessels, for_nodules, for_noise = np.random.default_rng(seed).spawn(4)
    geometry = grid_around(centre_lps_mm, shape_kji, spacing_mm)
    anatomy = paint_anatomy(geometry, for_chest, for_vessels)
    hu = anatomy.hu
    truth: list[PhantomNodule] = []
    for spec in DEFAULT_NODULES if nodules is None else nodules:
        centre = spec.centre_lps_mm or find_place(
            spec, anatomy, geometry, [n.centre_lps_mm for n in truth], for_nodules
        )
        truth.append(add_nodule(hu, geometry, spec, centre, for_nodules))
    voxels = scanned(hu, geometry, psf_fwhm_mm, noise_hu, for_noise)
    return Phantom(voxels, geometry, tuple(truth), seed)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A chest without nodules, as no scanner has blurred it yet."""

    hu: AnyArray
    """float32 [k, j, i]."""
    chest: Chest
    vessels: AnyArray
    """float32 [k, j, i]: share of each voxel that vessels fill."""


def grid_around(
    centre_lps_mm: Point, shape_kji: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Geometry:
    """Return a grid along the LPS axes.

    Args:
        centre_lps_mm: middle of the grid.
        shape_kji: number of slices, rows, columns.
        spacing_mm: (dz, dy, dx).
    """
    size_ijk = (shape_kji[2], shape_kji[1], shape_kji[0])
    spacing_ijk = (spacing_mm[2], spacing_mm[1], spacing_mm[0])
    origin = [
        c - (n - 1) / 2 * s for c, n, s in zip(centre_lps_mm, size_ijk, spacing_ijk, strict=True)
    ]
    return Geometry(size_ijk, spacing_ijk, (origin[0], origin[1], origin[2]), np.eye(3))


def paint_anatomy(
    geometry: Geometry, for_chest: np.random.Generator, for_vessels: np.random.Generator
) -> Anatomy:
    """Return the chest with its vessels and airways; the same generators give the same person.

    Args:
        geometry: of a grid along the LPS axes.
        for_chest: draws the proportions and the texture.
        for_vessels: draws the trees.
    """
    axes = tuple(
        (start + step * np.arange(n)).astype(np.float32)
        for start, step, n in zip(
            geometry.origin_lps_mm, geometry.spacing_mm, geometry.size_ijk, strict=True
        )
    )
    axes_mm = (axes[0], axes[1], axes[2])
    chest = Chest.sample(for_chest)
    hu = _paint_chest(chest, axes_mm, for_chest)
    vessels = np.zeros(geometry.shape_kji, dtype=np.float32)
    tree = grow_vessels(chest, for_vessels)
    add_tubes(vessels, axes_mm, tree)
    _add_share(hu, vessels, BLOOD_HU)
    _add_airways(hu, axes_mm, bronchi(tree) + large_airways())
    return Anatomy(hu, chest, vessels)


def scanned(
    hu: AnyArray,
    geometry: Geometry,
    psf_fwhm_mm: float,
    noise_hu: float,
    rng: np.random.Generator,
) -> AnyArray:
    """Blur a chest in plane, add noise, and return int16 HU; `hu` is changed in place."""
    for axis, spacing_mm in ((1, geometry.spacing_mm[1]), (2, geometry.spacing_mm[0])):
        sigma = psf_fwhm_mm / 2.355 / spacing_mm
        if sigma > 0:
            gaussian_filter1d(hu, sigma, axis=axis, output=hu)
    if noise_hu > 0:
        hu += _noise(geometry.shape_kji, noise_hu, rng)
    voxels: AnyArray = np.clip(np.rint(hu, out=hu), *_HU_RANGE).astype(np.int16)
    return voxels


def _paint_chest(
    chest: Chest, axes_mm: tuple[AnyArray, AnyArray, AnyArray], rng: np.random.Generator
) -> AnyArray:
    """Return the chest without vessels, HU float32 [k, j, i]."""
    x, y, z = axes_mm
    soft = float((x[-1] - x[0]) / max(len(x) - 1, 1)) or 1.0
    mottle, haze = (_SmoothNoise(axes_mm, scale, rng) for scale in (11.0, 3.0))
    hu = np.full((len(z), len(y), len(x)), AIR_HU, dtype=np.float32)
    rows = slice(*np.searchsorted(y, (-BODY_DEPTH_MM, BODY_DEPTH_MM)))
    for k, height in enumerate(z):
        noise = mottle.slice(k)[rows], haze.slice(k)[rows]
        hu[k, rows] = chest.paint(x[None, :], y[rows, None], float(height), soft, *noise)
    return hu


class _SmoothNoise:
    """Noise of about unit variance, interpolated from a coarse grid fixed in the patient."""

    def __init__(
        self,
        axes_mm: tuple[AnyArray, AnyArray, AnyArray],
        scale_mm: float,
        rng: np.random.Generator,
    ) -> None:
        count = math.ceil(400 / scale_mm)
        self._knots = rng.standard_normal((count,) * 3, dtype=np.float32) * 1.8
        x, y, z = ((axis / scale_mm + count / 2) % count for axis in axes_mm)
        self._x, self._y, self._z = _hat_weights(x, count), _hat_weights(y, count), z

    def slice(self, k: int) -> AnyArray:
        """Return axial slice k, float32 [j, i]."""
        low, part = int(self._z[k]), float(self._z[k] % 1)
        count = len(self._knots)
        above, below = self._knots[(low + 1) % count], self._knots[low % count]
        values: AnyArray = self._y @ (part * above + (1 - part) * below) @ self._x.T
        return values


def _hat_weights(position: AnyArray, count: int) -> AnyArray:
    """Return float32 (voxels, knots): linear interpolation on a periodic grid."""
    low = np.floor(position).astype(int)
    weights = np.zeros((len(position), count), dtype=np.float32)
    rows = np.arange(len(position))
    weights[rows, low % count] = 1 - (position - low)
    weights[rows, (low + 1) % count] = position - low
    return weights


def _add_share(hu: AnyArray, share: AnyArray, value: float | AnyArray) -> None:
    """Fill the share of each voxel with what is denser than it."""
    hu += share * np.maximum(value - hu, 0)


def _add_airways(
    hu: AnyArray, axes_mm: tuple[AnyArray, AnyArray, AnyArray], airways: list[Tube]
) -> None:
    """Carve the lumen of airways, each with its wall, in place."""
    walls = [
        Tube(t.start_mm, t.end_mm, 1.1 * t.start_radius_mm + 0.7, 1.1 * t.end_radius_mm + 0.7)
        for t in airways
    ]
    share = np.zeros(hu.shape, dtype=np.float32)
    add_tubes(share, axes_mm, walls)
    _add_share(hu, share, _AIRWAY_WALL_HU)
    share[:] = 0
    add_tubes(share, axes_mm, airways)
    hu += share * (_LUMEN_HU - hu)


def find_place(
    spec: NoduleSpec,
    anatomy: Anatomy,
    geometry: Geometry,
    taken: list[Point],
    rng: np.random.Generator,
) -> Point:
    """Draw a centre in a lung, away from the wall and other nodules, with few vessels near."""
    reach = spec.equivalent_diameter_mm / 2 * (1 + 0.6 * spec.spiculation) + _WALL_DISTANCE_MM
    upper = np.asarray(geometry.size_ijk) - 1
    ijk = rng.uniform(0, 1, (_PLACE_TRIES, 3)) * upper
    points = geometry.ijk_to_lps(ijk)
    margin = np.minimum(ijk, upper - ijk) * geometry.spacing_mm
    free = (anatomy.chest.lung(*points.T) < -reach) & (margin.min(axis=1) > reach)
    for other in taken:
        free &= np.linalg.norm(points - other, axis=1) > 2 * reach + 10
    candidates = points[free][:60]
    if len(candidates) == 0:
        raise InputError(
            f"no room in a lung of this volume for a nodule of {spec.equivalent_diameter_mm} mm: "
            "give centre_lps_mm, or a larger volume around a lung"
        )
    crowded = np.array(
        [_mean_around(anatomy.vessels, geometry, point, reach) for point in candidates]
    )
    x, y, z = candidates[int(np.argmax(crowded <= max(_FEW_VESSELS, crowded.min())))]
    return float(x), float(y), float(z)


def _mean_around(values: AnyArray, geometry: Geometry, centre: AnyArray, reach_mm: float) -> float:
    start, stop = _box(geometry, centre, reach_mm)
    return float(values[start[2] : stop[2], start[1] : stop[1], start[0] : stop[0]].mean())


def _box(geometry: Geometry, centre: AnyArray, reach_mm: float) -> tuple[AnyArray, AnyArray]:
    """Return first and last + 1 voxel (i, j, k) within reach of a point, inside the volume."""
    at = geometry.lps_to_ijk(centre)
    reach = reach_mm / np.asarray(geometry.spacing_mm) + 1
    start = np.clip(np.floor(at - reach), 0, None).astype(int)
    stop = np.minimum(np.ceil(at + reach).astype(int) + 1, geometry.size_ijk)
    return start, stop


def add_nodule(
    hu: AnyArray, geometry: Geometry, spec: NoduleSpec, centre: Point, rng: np.random.Generator
) -> PhantomNodule:
    """Render one nodule in place and return its truth."""
    if not geometry.contains(centre):
        raise InputError(f"the nodule at LPS {centre} mm lies outside the volume")
    shape = NoduleShape(spec, rng)
    start, stop = _box(geometry, np.asarray(centre), shape.outer_mm)
    axes = tuple(
        geometry.origin_lps_mm[n]
        + geometry.spacing_mm[n] * np.arange(start[n], stop[n])
        - centre[n]
        for n in range(3)
    )
    axes_mm = (axes[0], axes[1], axes[2])
    filled = shape.filled(axes_mm)
    part = hu[start[2] : stop[2], start[1] : stop[1], start[0] : stop[0]]
    grain = rng.standard_normal(filled.shape, dtype=np.float32)
    if spec.texture == "solid":
        part += filled * (SOLID_HU + 8 * grain - part)
    else:
        glass = GROUND_GLASS_HU if spec.texture == "non-solid" else HALO_HU
        _add_share(part, filled, glass + 25 * grain)
    core_mm = None
    if spec.texture == "part-solid":
        core = shape.filled(axes_mm, spec.solid_fraction)
        part += core * (SOLID_HU + 8 * grain - part)
    volume = float(filled.sum(dtype=np.float64)) * math.prod(geometry.spacing_mm)
    long_axis, short_axis = shape.axial_axes_mm()
    if spec.texture == "part-solid":  # the core is the same shape, smaller
        core_mm = spec.solid_fraction * (long_axis + short_axis) / 2
    return PhantomNodule(
        centre_lps_mm=centre,
        equivalent_diameter_mm=(6 * volume / math.pi) ** (1 / 3),
        volume_mm3=volume,
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        solid_component_mm=core_mm,
        texture=spec.texture,
        spiculation=spec.spiculation,
        lobulation=spec.lobulation,
        mask=filled >= 0.5,
        start_ijk=(int(start[0]), int(start[1]), int(start[2])),
    )


def _noise(shape_kji: tuple[int, int, int], noise_hu: float, rng: np.random.Generator) -> AnyArray:
    """Return Gaussian noise, slightly correlated in plane, float32 [k, j, i]."""
    noise = rng.standard_normal(shape_kji, dtype=np.float32)
    for axis in (1, 2):
        gaussian_filter1d(noise, 0.6, axis=axis, output=noise, mode="wrap")
    noise *= noise_hu / float(noise.std())
    return noise
