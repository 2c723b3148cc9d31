"""The solid part of a nodule, measured in its mask: dense voxels, without the vessels in them.

A voxel is solid from about -300 HU on, at which software agrees best with radiologists on
whether a sub-solid nodule has a solid part (Scholten et al., Eur Radiol 25:488, 2015). What is
dense but thin is a vessel that crosses the nodule and is taken away (Charbonnier et al., Sci Rep
8:646, 2018, here by an opening). The scanner blurs every edge (partial
volume; Kuhnigk et al., IEEE TMI 25:417, 2006): the edge of what is left lies between its own
density and that around it, nearer to its own, where the diameter agrees with what is measured by
hand (Scholten: -130 HU beside ground glass), and a nodule that is dense but for its rim is solid
to its edge. A texture that the network is sure of moves the threshold. The mean diameter of the
largest solid part is told, as Lung-RADS v2022 asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import equivalent_diameter_mm, measure
from resmtnet.findings import Interval

VESSEL_MM = 3.0
"""Dense structures thinner than this are vessels, in nodules wide enough to tell."""
VESSEL_SHARE = 0.35
"""The same as a share of the nodule's diameter: a small nodule is as thin as a vessel."""
CORE_SHARE = 0.5
"""Thinner than this share of the solid part's own thickness is a vessel that runs into it."""
EDGE = 0.7
"""Where the edge lies between the density around a solid part (0) and its own (1)."""
EDGE_HU = (-500.0, -100.0)
"""Between these lies the edge of a solid part, whatever surrounds it."""
DENSEST_HU = 100.0
"""Calcium and contrast medium above this would move the edge inwards."""
SHELL_MM = (1.0, 3.0)
"""Distances between which the surroundings of a solid part are looked at."""
RIM_MM, RIM_SHARE = 1.5, 0.25
"""Thickness of the nodule's rim, and its limit as a share of the nodule's diameter."""
SOLID_SHARE = 0.95
"""A nodule of which this share is dense within its rim is solid to its edge."""

THRESHOLDS_HU = (-500.0, -150.0)
"""A texture moves the threshold no further: ground glass is never solid, soft tissue always."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SolidCalibration:
    """Constants of the measurement."""

    from_hu: float = -275.0
    """Density from which a voxel is solid."""
    texture_shift_hu: float = 300.0
    """Of that density: up where the nodule looks non-solid, down where it looks solid."""
    edge_error_hu: float = 150.0
    """By how much the edge is moved either way for the 90% interval."""
    least_error_mm: float = 0.8
    """Half width that the interval has at least."""

    def threshold_hu(self, texture: Mapping[str, float]) -> float:
        """Return the density from which a voxel of a nodule is solid.

        Args:
            texture: probability of "non-solid", "part-solid" and "solid".

        >>> SolidCalibration(-300, 100).threshold_hu({"non-solid": 0.9, "solid": 0.1})
        -220.0
        """
        shifted = self.from_hu + self.texture_shift_hu * (texture["non-solid"] - texture["solid"])
        return min(max(shifted, THRESHOLDS_HU[0]), THRESHOLDS_HU[1])

    def to_json(self) -> dict[str, float]:
        """Return the plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SolidCalibration:
        """Read what to_json gave."""
        return cls(**values)


@dataclass(frozen=True)
class SolidComponent:
    """The largest solid part of a nodule."""

    mean_diameter_mm: float
    """Mean of its long and short axis in an axial slice; 0 where there is none."""
    interval_mm: Interval
    """What other choices of its edge give."""


def solid_component(
    hu: NDArray[np.int16],
    mask: NDArray[np.uint8],
    geometry: Geometry,
    threshold_hu: float,
    calibration: SolidCalibration | None = None,
) -> SolidComponent | None:
    """Measure the solid part of a nodule.

    Args:
        hu: [k, j, i], the box of the mask and some voxels around it.
        mask: of the same voxels, non-zero inside the nodule.
        geometry: of the same voxels.
        threshold_hu: density from which a voxel is solid; see SolidCalibration.threshold_hu.
        calibration: of the interval.

    Returns:
        The solid part, of diameter 0 where there is none; None for an empty mask.
    """
    calibration = calibration or SolidCalibration()
    diameter_mm = equivalent_diameter_mm(mask, geometry)
    if diameter_mm is None:
        return None
    nodule = _Nodule(hu, np.asarray(mask != 0), geometry, diameter_mm)
    core = nodule.solid_from(threshold_hu)
    if not core.any():
        looser = nodule.solid_from(threshold_hu - calibration.edge_error_hu)
        return SolidComponent(0.0, (0.0, nodule.mean_diameter_mm(looser)))
    edge_hu = nodule.edge_hu(core, threshold_hu)
    told, loose, strict = (
        nodule.mean_diameter_mm(nodule.grown(core, edge_hu + shift))
        for shift in (0.0, -calibration.edge_error_hu, calibration.edge_error_hu)
    )
    if nodule.is_solid(threshold_hu):  # or has a rim too thin to be told from a blurred edge
        told = loose = nodule.mean_diameter_mm(nodule.inside)
    else:
        loose = max(loose, told + calibration.least_error_mm)
    return SolidComponent(told, (max(0.0, min(strict, told - calibration.least_error_mm)), loose))


@dataclass(frozen=True, eq=False)
class _Nodule:
    """Voxels of a nodule; masks are bool [k, j, i]."""

    hu: NDArray[np.int16]
    inside: Mask
    geometry: Geometry
    diameter_mm: float

    @property
    def spacing_kji_mm(self) -> tuple[float, ...]:
        return self.geometry.spacing_mm[::-1]

    def solid_from(self, threshold_hu: float) -> Mask:
        """Return the largest dense structure that is no vessel."""
        return _largest(self._thick(self.inside & (self.hu >= threshold_hu)))

    def is_solid(self, threshold_hu: float) -> bool:
        """Return whether the nodule is dense throughout, but for its rim."""
        deep = self._distance_mm(self.inside) > min(RIM_MM, RIM_SHARE * self.diameter_mm)
        return bool(deep.any() and np.mean(self.hu[deep] >= threshold_hu) >= SOLID_SHARE)

    def edge_hu(self, core: Mask, threshold_hu: float) -> float:
        """Return the density half way between a core and what lies around it."""
        near, far = SHELL_MM
        dense = self.inside & (self.hu >= threshold_hu)
        away_mm = self._distance_mm(~dense, beyond=True)
        # what is dense outside the nodule is the chest wall or a vessel
        shell = (away_mm > near) & (away_mm <= far) & (self.inside | (self.hu < threshold_hu))
        own = min(float(np.median(self.hu[core])), DENSEST_HU)
        around = float(np.median(self.hu[shell])) if shell.any() else EDGE_HU[0]
        return float(np.clip(around + EDGE * (own - around), *EDGE_HU))

    def grown(self, core: Mask, edge_hu: float) -> Mask:
        """Return the solid part that a core belongs to, out to its edge."""
        from scipy.ndimage import label

        dense = self.inside & (self.hu >= edge_hu)
        parts, _ = label(self._thick(dense, CORE_SHARE * float(self._distance_mm(dense).max())))
        touched = np.unique(parts[core & (parts > 0)])
        return np.isin(parts, touched) if len(touched) else core

    def mean_diameter_mm(self, solid: Mask) -> float:
        """Return the mean of the axes of a solid part, 0 for none."""
        measured = measure(solid, self.geometry)
        return measured.mean_diameter_mm if measured else 0.0

    def _thick(self, dense: Mask, least_radius_mm: float = 0.0) -> Mask:
        """Return a mask without what is thinner than a vessel, or than a radius."""
        vessel_mm = min(VESSEL_MM, VESSEL_SHARE * self.diameter_mm)
        radius_mm = max(vessel_mm / 2, least_radius_mm)
        deep = self._distance_mm(dense) > radius_mm
        if not deep.any():
            return deep
        return np.asarray(dense & (self._distance_mm(~deep, beyond=True) <= radius_mm))

    def _distance_mm(self, mask: Mask, *, beyond: bool = False) -> NDArray[np.float64]:
        """Return the distance of what is True from what is False.

        Args:
            mask: of which the distances are asked.
            beyond: what its values beyond the box are.
        """
        from scipy.ndimage import distance_transform_edt

        distance = distance_transform_edt(
            np.pad(mask, 1, constant_values=beyond), self.spacing_kji_mm
        )
        return np.asarray(distance[1:-1, 1:-1, 1:-1])


def _largest(mask: Mask) -> Mask:
    """Return the component of most voxels."""
    from scipy.ndimage import label

    parts, count = label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((parts == sizes.argmax()) & mask)
