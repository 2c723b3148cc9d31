"""Finds places in a chest CT that are no nodule, by rules that anybody can repeat.

No place is marked by hand. Each rule is HU, distance to lungs and skin, and the shape of what lies
there (eigenvalues of the Hessian); points are drawn by seed, at least APART_MM from one another
and AWAY_MM from the known nodules. Left out, because no such rule finds them honestly: scars and
lymph nodes (nobody marked them, and HU and shape do not tell them from vessels and nodules) and
fissures (in thick slices a filter for sheets answers vessels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct_anatomy import Anatomy, Field, Mask, distance_mm
from resmtnet import CTVolume
from resmtnet.ct.geometry import Geometry
from resmtnet.inference.candidates import find_candidates
from resmtnet.types import Point

APART_MM, AWAY_MM = 6.0, 30.0
EDGE_MM = 30.0
"""Distance from every side of the CT, so that no patch runs out of it."""

Rule = Callable[[Anatomy], Mask]


def air_outside(a: Anatomy) -> Mask:
    """Air: 25 mm or more from the body and nothing above -900 HU within 10 mm."""
    away = distance_mm(~a.body, a.geometry.spacing_mm[::-1]) >= 25
    return np.asarray(away & (a.greatest(10) < -900))


def trachea(a: Anatomy) -> Mask:
    """Trachea and main bronchi: below -930 HU between the lungs, 4 mm wide or more."""
    lumen = ndimage.binary_opening((a.hu < -930) & a.between)
    return np.asarray(lumen & (a.to_skin_mm > 25))


def parenchyma(a: Anatomy) -> Mask:
    """Lung 12 mm or more from its surface without anything above -650 HU within 5 mm."""
    return (a.in_lung_mm >= 12) & (a.greatest(5) < -650)


def vessel(a: Anatomy) -> Mask:
    """Bright tubes: two strongly negative eigenvalues alike, the third near 0; 8 mm from pleura."""
    tubes = np.zeros(a.hu.shape, bool)
    for sigma_mm in (1.5, 2.5):
        low, middle, high = np.moveaxis(a.curvatures(sigma_mm), -1, 0)
        like_tube = (middle < -100) & (middle < 0.5 * low) & (np.abs(high) < -0.25 * middle)
        tubes |= like_tube & _ridge(-middle)
    return tubes & (a.in_lung_mm >= 8) & (a.hu > -400)


def bronchus(a: Anatomy) -> Mask:
    """Dark tubes: two positive eigenvalues alike, below -800 HU, a wall above -600 HU in 4 mm."""
    low, middle, high = np.moveaxis(a.curvatures(2.0), -1, 0)
    like_tube = (middle > 60) & (middle > 0.4 * high) & (np.abs(low) < 0.5 * middle)
    walled = a.greatest(4) > -600
    deep = (a.in_lung_mm >= 6) & (a.hu < -800)
    return np.asarray(like_tube & _ridge(middle) & walled & deep)


def pleura(a: Anatomy) -> Mask:
    """Surface of the lungs towards the chest wall: within 1.5 mm inside, skin within 50 mm."""
    return (a.in_lung_mm > 0) & (a.in_lung_mm <= 1.5) & (a.to_skin_mm < 50) & ~a.between


def muscle(a: Anatomy) -> Mask:
    """Chest wall: 5 to 40 mm outside the lungs, above the liver, 0 to 110 HU within 3 mm."""
    near = (a.to_lung_mm >= 5) & (a.to_lung_mm <= 40) & ~a.between & (_height_share(a) > 0.5)
    return near & a.body & (a.least(3) > 0) & (a.greatest(3) < 110)


def fat(a: Anatomy) -> Mask:
    """Fat of the chest wall: above the liver, -140 to -50 HU within 4 mm, 5 mm below the skin."""
    near = (a.to_lung_mm >= 5) & (a.to_lung_mm <= 60) & ~a.between & (_height_share(a) > 0.5)
    return near & (a.to_skin_mm > 5) & (a.least(4) > -140) & (a.greatest(4) < -50)


def rib(a: Anatomy) -> Mask:
    """Bone (above 250 HU) 2 to 12 mm outside the lungs, 45 mm or more beside the midline."""
    return _bone(a) & (a.to_lung_mm > 2) & (a.to_lung_mm <= 12) & (a.across_mm() > 45)


def vertebra(a: Anatomy) -> Mask:
    """Bone within 18 mm of the midline, 20 mm or more behind the middle of the lungs."""
    return _bone(a) & (a.across_mm() < 18) & (a.rows_behind_mm() > 20)


def sternum(a: Anatomy) -> Mask:
    """Bone within 25 mm of the midline, less than 45 mm below the skin of the front."""
    front = (a.rows_behind_mm() < -30) & (a.to_skin_mm < 45) & (_height_share(a) > 0.4)
    return _bone(a) & (a.across_mm() < 25) & front


def heart(a: Anatomy) -> Mask:
    """Heart: 10 mm or more from the lungs, between them, in front, left of the midline."""
    share, dx = _height_share(a), a.geometry.spacing_mm[0]
    left = a.geometry.origin_lps_mm[0] + np.arange(a.hu.shape[2]) * dx > a.midline_mm + 5
    middle = (share > 0.38) & (share < 0.62)
    return _soft_between(a, 10) & middle & left & (a.rows_behind_mm() < 10)


def mediastinum(a: Anatomy) -> Mask:
    """Soft tissue between the lungs, 4 mm or more from them; upper 40% of the lungs' height."""
    return _soft_between(a, 4) & (_height_share(a) > 0.6) & (a.rows_behind_mm() < 30)


def below_diaphragm(a: Anatomy) -> Mask:
    """Liver, spleen and stomach: soft tissue 8 to 40 mm straight below the lungs."""
    dz = a.geometry.spacing_mm[2]
    near, far = (np.zeros_like(a.lungs) for _ in range(2))
    for k in range(len(a.lungs)):
        far[k] = a.lungs[k : k + round(40 / dz)].any(0)
        near[k] = a.lungs[max(k - 1, 0) : k + round(8 / dz)].any(0)
    return far & ~near & a.body & (a.to_lung_mm >= 6) & (a.least(3) > 0) & (a.greatest(3) < 250)


RULES: dict[str, Rule] = {
    "air outside the body": air_outside,
    "trachea": trachea,
    "lung parenchyma": parenchyma,
    "vessel": vessel,
    "bronchus": bronchus,
    "pleura": pleura,
    "chest wall muscle": muscle,
    "chest wall fat": fat,
    "rib": rib,
    "vertebra": vertebra,
    "sternum": sternum,
    "heart": heart,
    "mediastinum": mediastinum,
    "below the diaphragm": below_diaphragm,
}
"""Kinds of place and how they are found."""

UNMARKED = "unmarked candidate"
"""What the candidate search offers and no reader marked as a nodule of 3 mm or more."""


def find_places(
    ct: CTVolume, nodules_lps_mm: Sequence[Point], count: int, seed: int
) -> dict[str, list[Point]]:
    """Return up to `count` places of every kind, LPS mm.

    Args:
        ct: of a chest.
        nodules_lps_mm: every nodule that readers marked in it.
        count: points per kind.
        seed: of the draw.
    """
    anatomy = Anatomy.of(ct)
    away = _away_from(anatomy, nodules_lps_mm)
    found: dict[str, list[Point]] = {}
    for n, (kind, rule) in enumerate(RULES.items()):
        allowed = np.argwhere(rule(anatomy) & away)
        found[kind] = _drawn(anatomy.geometry, allowed, count, np.random.default_rng([seed, n]))
    offered = [c.centre_lps_mm for c in find_candidates(ct, maximum=count + len(nodules_lps_mm))]
    found[UNMARKED] = [
        point
        for point in offered
        if all(np.linalg.norm(np.subtract(point, n)) > AWAY_MM for n in nodules_lps_mm)
    ][:count]
    return found


def _drawn(
    geometry: Geometry, allowed_kji: NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[Point]:
    chosen = np.zeros((0, 3))
    for point in geometry.ijk_to_lps(rng.permutation(allowed_kji)[:, ::-1]):
        if len(chosen) == count:
            break
        if not len(chosen) or np.linalg.norm(chosen - point, axis=1).min() >= APART_MM:
            chosen = np.vstack([chosen, point])
    return [(float(x), float(y), float(z)) for x, y, z in chosen]


def _away_from(a: Anatomy, nodules_lps_mm: Sequence[Point]) -> Mask:
    """Voxels far from the nodules and from every side of the CT."""
    away = np.zeros(a.hu.shape, bool)
    edges = [round(EDGE_MM / spacing) for spacing in a.geometry.spacing_mm[::-1]]
    away[tuple(slice(n, -n) for n in edges)] = True
    i, j, k = (np.arange(n) for n in a.geometry.size_ijk)
    dx, dy, dz = a.geometry.spacing_mm
    for nodule in nodules_lps_mm:
        ni, nj, nk = a.geometry.lps_to_ijk(nodule)
        squared = (
            ((k - nk) * dz)[:, None, None] ** 2
            + ((j - nj) * dy)[None, :, None] ** 2
            + ((i - ni) * dx)[None, None] ** 2
        )
        away &= squared > AWAY_MM**2
    return away


def _ridge(strength: Field) -> Mask:
    """Voxels whose strength is the greatest of their 3 x 3 axial neighbours."""
    return np.asarray(strength >= ndimage.maximum_filter(strength, (1, 3, 3)))


def _bone(a: Anatomy) -> Mask:
    dense = ndimage.gaussian_filter(a.hu, (0, 1, 1)) > 250
    return np.asarray(dense & a.body & ~a.between & (a.to_skin_mm > 8))


def _soft_between(a: Anatomy, least_mm: float) -> Mask:
    return a.between & (a.to_lung_mm >= least_mm) & (a.least(2) > -50) & (a.to_skin_mm > 30)


def _height_share(a: Anatomy) -> Field:
    """Return where each slice lies between the lungs' bottom (0) and top (1) [k, 1, 1]."""
    inside = np.flatnonzero(a.lungs.any((1, 2)))
    share = (np.arange(len(a.lungs)) - inside[0]) / max(inside[-1] - inside[0], 1)
    return np.asarray(share[:, None, None], np.float32)
