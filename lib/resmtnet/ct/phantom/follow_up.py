"""A pair of phantoms: a chest, and the same one deformed, with nodules that have grown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.phantom.build import (
    Phantom,
    add_nodule,
    find_place,
    grid_around,
    paint_anatomy,
    scanned,
)
from resmtnet.ct.phantom.chest import AnyArray
from resmtnet.ct.phantom.nodule import NoduleSpec, PhantomNodule
from resmtnet.errors import InputError
from resmtnet.types import Point

_BUMPS = 6
_BUMP_MM = 55.0
"""Width of the bumps of the field: no lung folds, whatever the displacement is."""
_DOMAIN_MM = 90.0
_INVERSIONS = 40


class SmoothField:
    """A smooth displacement of the chest, in closed form.

    A point y of the current CT shows what lies at `to_prior(y)` of the prior one.
    """

    def __init__(self, largest_mm: float, rng: np.random.Generator) -> None:
        """Draw a field.

        Args:
            largest_mm: length of the greatest displacement in the chest.
            rng: draws it.
        """
        self._centres = rng.uniform(-_DOMAIN_MM, _DOMAIN_MM, (_BUMPS, 3))
        self._pushes = rng.standard_normal((_BUMPS, 3))
        self._shift = 0.5 * rng.standard_normal(3)
        grid = np.stack(np.meshgrid(*[np.linspace(-110, 110, 12)] * 3), -1).reshape(-1, 3)
        length = float(np.linalg.norm(self._displacement(grid), axis=1).max())
        self._pushes *= largest_mm / length
        self._shift *= largest_mm / length

    def to_prior(self, lps_mm: AnyArray) -> AnyArray:
        """Return the places in the prior CT of points (..., 3) of the current one."""
        moved: AnyArray = lps_mm + self._displacement(lps_mm)
        return moved

    def to_current(self, lps_mm: AnyArray) -> AnyArray:
        """Return the places in the current CT of points (..., 3) of the prior one."""
        found = np.array(lps_mm, dtype=np.float64)
        for _ in range(_INVERSIONS):
            found = found - 0.8 * (self.to_prior(found) - lps_mm)
        return found

    def plane_to_prior(self, x: AnyArray, y: AnyArray, z: float) -> AnyArray:
        """Return the places (rows, columns, 3) in the prior CT of an axial plane of the current.

        Args:
            x: of the columns, LPS mm.
            y: of the rows.
            z: of the plane.
        """
        moved = np.zeros((len(y), len(x), 3)) + self._shift
        for centre, push in zip(self._centres, self._pushes, strict=True):
            along_x, along_y, along_z = (
                np.exp(-((mm - at) ** 2) / (2 * _BUMP_MM**2))
                for mm, at in zip((x, y, z), centre, strict=True)
            )
            moved += (along_z * along_y[:, None] * along_x)[..., None] * push
        moved += np.stack([*np.meshgrid(x, y), np.full((len(y), len(x)), z)], axis=-1)
        return moved

    def _displacement(self, lps_mm: AnyArray) -> AnyArray:
        moved = np.zeros(np.shape(lps_mm)) + self._shift
        for centre, push in zip(self._centres, self._pushes, strict=True):
            square = np.sum((lps_mm - centre) ** 2, axis=-1)
            moved += np.exp(-square / (2 * _BUMP_MM**2))[..., None] * push
        return moved


@dataclass(frozen=True, eq=False)
class FollowUp:
    """Two CTs of one synthetic patient."""

    prior: Phantom
    current: Phantom
    pairs: tuple[tuple[int | None, int | None], ...]
    """Index of a nodule in the prior and in the current CT; None where it is not there."""
    field: SmoothField


def make_follow_up(
    seed: int,
    nodules: Sequence[NoduleSpec],
    growth: Sequence[float | None],
    *,
    new: Sequence[NoduleSpec] = (),
    largest_mm: float = 10.0,
    shape_kji: tuple[int, int, int] = (180, 320, 320),
    spacing_mm: tuple[float, float, float] = (1.25, 1.0, 1.0),
    current_spacing_mm: tuple[float, float, float] | None = None,
    noise_hu: tuple[float, float] = (22.0, 22.0),
    centre_lps_mm: Point = (4.0, -6.0, -7.0),
    psf_fwhm_mm: float = 0.7,
) -> FollowUp:
    """Return a prior and a current phantom; the same seed gives the same voxels.

    The chest is deformed, each nodule moves with it and keeps its shape: its volume is multiplied
    by what is asked for, not by the field.

    Args:
        seed: of the person, the field, the nodules and the noise.
        nodules: of the prior CT.
        growth: volume in the current CT as a multiple of that before, one for each nodule; None:
            the nodule is gone.
        new: nodules of the current CT alone; their places are drawn in the prior chest.
        largest_mm: greatest displacement of the chest.
        shape_kji: slices, rows, columns of the prior; the current CT covers the same extent.
        spacing_mm: (dz, dy, dx) of the prior.
        current_spacing_mm: of the current CT; None: the same.
        noise_hu: of the prior and the current CT.
        centre_lps_mm: middle of both volumes.
        psf_fwhm_mm: in-plane blur of both.

    Raises:
        InputError: the growths are not one for each nodule, or a lung has no room for a nodule.
    """
    if len(growth) != len(nodules):
        raise InputError(f"{len(growth)} growths for {len(nodules)} nodules: give one for each")
    spacing_now = current_spacing_mm or spacing_mm
    extent = [n * s for n, s in zip(shape_kji, spacing_mm, strict=True)]
    slices, rows, columns = (
        max(1, round(mm / s)) for mm, s in zip(extent, spacing_now, strict=True)
    )
    before = grid_around(centre_lps_mm, shape_kji, spacing_mm)
    after = grid_around(centre_lps_mm, (slices, rows, columns), spacing_now)
    parts = np.random.default_rng(seed).spawn(6)
    anatomy = paint_anatomy(before, parts[0], parts[1])
    field = SmoothField(largest_mm, parts[4])
    later_hu = _deformed(anatomy.hu, before, after, field)
    places: list[Point] = []
    for spec in (*nodules, *new):
        largest = replace(spec, equivalent_diameter_mm=1.45 * spec.equivalent_diameter_mm)
        places.append(spec.centre_lps_mm or find_place(largest, anatomy, before, places, parts[2]))
    shapes = [int(number) for number in parts[5].integers(2**31, size=len(places))]
    factors = [*growth, *(1.0 for _ in new)]
    truth: tuple[list[PhantomNodule], list[PhantomNodule]] = ([], [])
    pairs: list[tuple[int | None, int | None]] = []
    for n, (spec, place, shape) in enumerate(zip((*nodules, *new), places, shapes, strict=True)):
        was = is_now = None
        if n < len(nodules):
            was = len(truth[0])
            rng = np.random.default_rng(shape)
            truth[0].append(add_nodule(anatomy.hu, before, spec, place, rng))
        factor = factors[n]
        if factor is not None:
            is_now = len(truth[1])
            x, y, z = (float(mm) for mm in field.to_current(np.asarray(place)))
            grown = replace(
                spec, equivalent_diameter_mm=spec.equivalent_diameter_mm * factor ** (1 / 3)
            )
            rng = np.random.default_rng(shape)
            truth[1].append(add_nodule(later_hu, after, grown, (x, y, z), rng))
        pairs.append((was, is_now))
    noise = parts[3].spawn(2)
    return FollowUp(
        Phantom(
            scanned(anatomy.hu, before, psf_fwhm_mm, noise_hu[0], noise[0]),
            before,
            tuple(truth[0]),
            seed,
        ),
        Phantom(
            scanned(later_hu, after, psf_fwhm_mm, noise_hu[1], noise[1]),
            after,
            tuple(truth[1]),
            seed,
        ),
        tuple(pairs),
        field,
    )


def _deformed(hu: AnyArray, before: Geometry, after: Geometry, field: SmoothField) -> AnyArray:
    """Return the chest on another grid, float32 [k, j, i], as the field has moved it."""
    moved = np.empty(after.shape_kji, np.float32)
    x, y, z = (
        start + step * np.arange(n)
        for start, step, n in zip(
            after.origin_lps_mm, after.spacing_mm, after.size_ijk, strict=True
        )
    )
    for plane, height in zip(moved, z, strict=True):
        kji = before.lps_to_ijk(field.plane_to_prior(x, y, float(height)))[..., ::-1]
        map_coordinates(hu, kji.transpose(2, 0, 1), output=plane, order=1, mode="nearest")
    return moved
