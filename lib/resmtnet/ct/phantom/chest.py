"""The body of the phantom: organs as analytic shapes, painted from the skin inwards.

Every organ is an implicit function in anatomy coordinates (LPS mm, x left, y posterior,
z superior, origin mid-chest): approximately the signed distance in mm, negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
"""float32 or float64, as it comes."""

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, LIVER_HU, LUNG_HU = -1000.0, -100.0, 52.0, 42.0, 58.0, -860.0

BODY_DEPTH_MM = 118.0
"""No body lies further to the front or the back."""

_APEX_MM = 104.0
"""z of the lung apex."""
_RIB_PITCH_MM, _RIB_DROP_MM = 27.0, 78.0
_SPINE_Y_MM = 58.0


@dataclass(frozen=True)
class Chest:
    """The proportions of one synthetic person."""

    width: float = 1.0
    """Factor on the left-right axis."""
    depth: float = 1.0
    """Factor on the front-back axis."""
    fat_mm: float = 9.0
    """Thickness of the fat under the skin."""
    heart: float = 1.0
    """Factor on the axes of the heart."""
    rib_phase_mm: float = 0.0
    """Shift of ribs and vertebrae along z."""

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Chest:
        """Draw a person; the body always fits a field of view of 320 mm."""
        return cls(
            width=float(rng.uniform(0.95, 1.02)),
            depth=float(rng.uniform(0.94, 1.05)),
            fat_mm=float(rng.uniform(6.0, 13.0)),
            heart=float(rng.uniform(0.92, 1.06)),
            rib_phase_mm=float(rng.uniform(0.0, _RIB_PITCH_MM)),
        )

    def body(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Skin surface."""
        top = np.clip((z - 40.0) / 90.0, 0.0, 1.0) ** 2
        return ellipse(x, y + 2, 150 * self.width, (107 - 18 * top) * self.depth, squarer=True)

    def cavity(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Inner surface of the rib cage."""
        rise = np.clip((z - 5.0) / (_APEX_MM - 5.0), 0.0, 1.0) ** 2.6
        taper = np.sqrt(np.maximum(1.0 - rise, 0.02))
        return ellipse(
            x, y - 4 - 14 * rise, 120 * self.width * taper, 80 * self.depth * taper, squarer=True
        )

    def heart_distance(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Heart with its pericardium, pointing left and to the front."""
        u = 0.82 * (x - 20) - 0.57 * (y + 24)
        v = 0.57 * (x - 20) + 0.82 * (y + 24)
        size = self.heart
        return ellipsoid(u, v, z + 48, 63 * size, 43 * size, 56 * size)

    def mediastinum(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Everything between the lungs, spine included."""
        upper = np.clip((z + 20.0) / 60.0, 0.0, 1.0)
        column = ellipse(x + 2, y - 8, 34 - 2 * upper, 42)
        front = np.maximum(np.abs(x - 4) - 2 - 0.3 * np.maximum(-50 - y, 0), y + 8)
        spine = np.hypot(x, y - _SPINE_Y_MM) - 25
        aorta = np.hypot(x - 23, y - 40) - 15
        arch = ellipsoid(x - 18, y - 16, z - 44, 25, 34, 14)
        soft = smooth_min(smooth_min(column, front, 10.0), spine, 9.0)
        soft = smooth_min(smooth_min(soft, aorta, 6.0), arch, 8.0)
        return smooth_min(soft, self.heart_distance(x, y, z) - 3, 10.0)

    def diaphragm(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Negative above the two domes."""
        domes = 50 * np.exp(-(((x + 62) / 72) ** 2) - ((y + 8) / 62) ** 2)
        domes = domes + 40 * np.exp(-(((x - 64) / 70) ** 2) - ((y + 6) / 62) ** 2)
        return -112.0 + domes - z

    def lung(self, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
        """Both lungs: depth below the pleura is the negative of it."""
        walls = np.maximum(self.cavity(x, y, z), -self.mediastinum(x, y, z))
        return np.maximum(np.maximum(walls, self.diaphragm(x, y, z)), z - _APEX_MM)

    def scapula(self, x: AnyArray, y: AnyArray) -> AnyArray:
        """Both shoulder blades, cut by muscle and skin where they are painted."""
        along = 0.78 * (np.abs(x) - 92) - 0.63 * (y - 66)
        across = 0.63 * (np.abs(x) - 92) + 0.78 * (y - 66)
        return np.maximum(np.abs(across - 0.004 * along**2) - 2.4, np.abs(along) - 30)

    def paint(
        self, x: AnyArray, y: AnyArray, z: float, soft: float, mottle: AnyArray, haze: AnyArray
    ) -> AnyArray:
        """Return one axial slice, HU float32, without vessels, airways and noise.

        Args:
            x: (1, i) anatomy coordinates, mm.
            y: (j, 1).
            z: of the slice.
            soft: width of an organ's edge, mm: the partial volume of a voxel.
            mottle: (j, i) smooth noise of unit variance, coarse.
            haze: (j, i) the same, fine.
        """
        zz = np.full((1, 1), z, dtype=np.float32)
        skin = self.body(x, y, zz)
        cavity = self.cavity(x, y, zz)
        diaphragm = self.diaphragm(x, y, zz)
        hu = np.full(np.broadcast_shapes(x.shape, y.shape), AIR_HU, dtype=np.float32)
        lay(hu, skin, 10.0, soft)
        lay(hu, skin + 1.8, FAT_HU + 6 * mottle, soft)
        fat_mm = self.fat_mm + 1.5 * mottle + 5 * np.clip(-y / 100, -0.5, 1) + 2
        lay(hu, skin + fat_mm, MUSCLE_HU + 5 * mottle, 3 * soft)
        seam = np.abs(cavity - 15 - 1.5 * mottle) - 0.9 + 0.02 * np.abs(x)
        lay(hu, np.maximum(seam, skin + fat_mm), -55.0, 2 * soft)
        self._bones(hu, x, y, z, cavity, soft, haze)
        if z > 0:
            blade = np.maximum(self.scapula(x, y), np.maximum(14 - cavity, skin + fat_mm + 3))
            lay(hu, blade, 330.0 + 80 * haze, soft)
        lay(hu, cavity, -25.0 + 30 * mottle, soft)
        middle = slice(*np.searchsorted(x[0], (-75, 95)))
        self._mediastinal_organs(hu[:, middle], x[:, middle], y, z, soft)
        abdomen = np.maximum(cavity + 2, 2 - diaphragm)
        lay(hu, np.maximum(abdomen, x - 30 - 8 * mottle), LIVER_HU + 3 * mottle, soft)
        lay(hu, np.maximum(abdomen, 42 - x + 6 * mottle), 46.0, soft)
        middle = slice(*np.searchsorted(x[0], (-40, 40)))
        self._spine(hu[:, middle], x[:, middle], y, z, soft, haze[:, middle])
        mediastinum = self.mediastinum(x, y, zz) + 1.2 * mottle
        lung = np.maximum(np.maximum(np.maximum(cavity, -mediastinum), diaphragm), z - _APEX_MM)
        dependent = np.clip((y + 80) / 160, 0, 1)
        air = LUNG_HU + 45 * dependent + 9 * mottle + 7 * haze
        lay(hu, lung, air + self._fissure_hu(x, y, z), soft)
        return hu

    def _bones(
        self,
        hu: AnyArray,
        x: AnyArray,
        y: AnyArray,
        z: float,
        cavity: AnyArray,
        soft: float,
        haze: AnyArray,
    ) -> None:
        """Ribs that fall from back to front, cartilage and sternum."""
        behind = (y - 4) / np.hypot(x, y - 4 + 1e-3)
        fall = z + self.rib_phase_mm + _RIB_DROP_MM * (1 - behind) / 2
        height = (fall + 4 * np.sign(x)) % _RIB_PITCH_MM - _RIB_PITCH_MM / 2
        rib = 4.2 * (np.hypot(height / 6.5, (cavity - 7.5) / 4.2) - 1)
        bone = np.where(behind < -0.7, 105.0, 560.0 + 60 * haze)
        marrow = np.where(behind < -0.7, 90.0, 190.0 + 40 * haze)
        lay(hu, rib, bone, soft)
        lay(hu, rib + 1.6, marrow, soft)
        front = cavity - 9
        sternum = 6 * (np.hypot(x / 19, front / 6) - 1) + np.where(y < 0, 0, 1e3)
        if z > -75:
            lay(hu, sternum, 380.0, soft)
            lay(hu, sternum + 1.5, 140.0 + 30 * haze, soft)

    def _spine(
        self, hu: AnyArray, x: AnyArray, y: AnyArray, z: float, soft: float, haze: AnyArray
    ) -> None:
        """One vertebra or disc: body, canal, laminae, spinous and transverse processes."""
        level = (z + self.rib_phase_mm) % _RIB_PITCH_MM
        disc = level < 5
        body = np.maximum(ellipse(x, y - _SPINE_Y_MM, 18, 14, squarer=True), y - _SPINE_Y_MM - 11)
        arch = np.abs(np.hypot(x, y - _SPINE_Y_MM - 21) - 11.5) - 2.4
        spinous = np.maximum(np.abs(x) - 2.8, np.abs(y - _SPINE_Y_MM - 31) - 6)
        sideways = np.abs(y - _SPINE_Y_MM - 19 - 0.25 * np.abs(x)) - 4
        transverse = np.maximum(sideways, np.abs(np.abs(x) - 22) - 12)
        if disc:
            lay(hu, body, 95.0, soft)
            lay(hu, spinous, 260.0, soft)
        else:
            lay(hu, body, 420.0, soft)
            lay(hu, body + 1.6, 185.0 + 45 * haze, soft)
            lay(hu, arch, 430.0 + 60 * haze, soft)
            lay(hu, spinous, 330.0 + 60 * haze, soft)
            if level > 12:
                lay(hu, transverse, 310.0 + 60 * haze, soft)
        lay(hu, np.hypot(x, y - _SPINE_Y_MM - 21) - 9, 22.0, soft)

    def _mediastinal_organs(
        self, hu: AnyArray, x: AnyArray, y: AnyArray, z: float, soft: float
    ) -> None:
        """Heart, great vessels and oesophagus in the mediastinal fat, without contrast agent."""
        zz = np.full((1, 1), z, dtype=np.float32)
        heart = self.heart_distance(x, y, zz)
        organs = [heart, np.hypot(x - 23, y - 40) - 13]
        if z > -30:
            organs += [np.hypot(x + 24, y + 14) - 9]  # superior vena cava
        if -40 < z < 44:
            organs += [np.hypot(x + 4, y + 24) - 16]  # ascending aorta
        if -25 < z < 22:
            organs += [
                np.hypot(x - 22, y + 22) - 14,
                ellipse(x - 2, y - 2 + 0.4 * x, 34, 9),
            ]  # pulmonary trunk, arteries
        organs += [ellipsoid(x - 16, y - 14, zz - 44, 17, 36, 12)]  # arch
        if z > 52:
            organs += [np.hypot(x + 14, y + 6) - 6, np.hypot(x - 14, y - 8) - 5]
        for organ in organs:
            lay(hu, organ, BLOOD_HU, 1.5 * soft)
        lay(hu, np.abs(heart - 2.5) - 0.8, -85.0, 2 * soft)
        lay(hu, np.hypot(x - 6, y - 30) - 7, 35.0, soft)

    def _fissure_hu(self, x: AnyArray, y: AnyArray, z: float) -> AnyArray:
        """What the oblique fissures, planes that rise to the back, add to the lung."""
        off = 0.8 * (y - 0.75 * z + 12 - 0.0022 * (np.abs(x) - 60) ** 2)
        added: AnyArray = 90 * np.exp(-((off / 0.6) ** 2))
        return added


def ellipse(
    x: AnyArray, y: AnyArray, a: float | AnyArray, b: float | AnyArray, squarer: bool = False
) -> AnyArray:
    """Signed distance (first order) to the superellipse with semi-axes a, b (mm).

    The power is 2 (an ellipse), or 2.5 if `squarer`: neither needs a slow general power.

    >>> round(float(ellipse(np.array(12.0), np.array(0.0), 10.0, 5.0)), 3)
    2.0
    """
    u, v = np.abs(x / a) + 1e-6, np.abs(y / b) + 1e-6
    raised_u, raised_v = u * u, v * v
    if squarer:
        raised_u, raised_v = raised_u * np.sqrt(u), raised_v * np.sqrt(v)
    total = raised_u + raised_v
    radius = total**0.4 if squarer else np.sqrt(total)
    slope_x, slope_y = raised_u / u / a, raised_v / v / b
    distance: AnyArray = (radius - 1) * total / (radius * np.sqrt(slope_x**2 + slope_y**2))
    return distance


def ellipsoid(x: AnyArray, y: AnyArray, z: AnyArray, a: float, b: float, c: float) -> AnyArray:
    """Signed distance (first order) to the ellipsoid with semi-axes a, b, c (mm).

    >>> round(float(ellipsoid(np.array(0.0), np.array(0.0), np.array(4.0), 9.0, 9.0, 5.0)), 3)
    -1.0
    """
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) + 1e-6
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) / radius + 1e-6
    distance: AnyArray = (radius - 1) / slope
    return distance


def smooth_min(first: AnyArray, second: AnyArray, blend_mm: float) -> AnyArray:
    """Union of two implicit organs with a fillet of about `blend_mm`."""
    mix = np.clip(0.5 + 0.5 * (second - first) / blend_mm, 0, 1)
    union: AnyArray = second + (first - second) * mix - blend_mm * mix * (1 - mix)
    return union


def lay(hu: AnyArray, distance: AnyArray, value: float | AnyArray, soft: float) -> None:
    """Paint an organ over `hu` in place, with an edge of `soft` mm."""
    rows = np.flatnonzero((distance < soft / 2).any(axis=1))
    if len(rows) == 0:
        return
    part = slice(rows[0], rows[-1] + 1)
    share = np.clip(0.5 - distance[part] / soft, 0, 1)
    laid = value[part] if isinstance(value, np.ndarray) else value
    hu[part] += (share * (laid - hu[part])).astype(np.float32, copy=False)
