"""The raw prediction at one point of a CT: outputs of the heads, mask, and warnings.

Clicks, calibration and evaluation all use it, so that they work on the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resmtnet.config import PatchConfig
from resmtnet.ct.measure import Measurement, equivalent_diameter_mm, measure
from resmtnet.ct.volume import CTVolume
from resmtnet.inference.ensemble import NEIGHBOUR_MM, Ensemble, RawOutputs, Sampler
from resmtnet.inference.mask_growth import (
    MOST_REACH_MM,
    NEAR_MM,
    Stack,
    VoxelMask,
    distance_mm,
    grow,
    to_voxels,
)
from resmtnet.inference.solid_component import SolidCalibration, SolidComponent, solid_component
from resmtnet.types import Point

AIR_BELOW_HU = -900
"""A click in whose neighbourhood nothing is denser than this is a click on air."""
NEIGHBOURHOOD_MM = 3.0
TISSUE_ABOVE_HU = -400
FILLED_MM, FILLED_SHARE = 10.0, 0.9
"""Without a mask, a square of this half edge that is tissue to this share is no small nodule."""
BEYOND_MM = 3.0
"""Height beyond the regressed radius that is looked at first for the mask."""
BESIDE_MM = 5.0
"""The same in the plane: a click is not always at the centre."""
SOLID_MARGIN_MM = 4.0
"""What is read around a mask to tell its solid part from its surroundings."""
COARSE_FROM_MM, COARSE = 14.0, 2
"""From this regressed diameter on, the mask's levels lie COARSE times as far apart."""


MASS = 2
"""A mass that ends beyond the patch is looked at in pixels and levels this much larger: the network
then sees it as a nodule of half its size."""


@dataclass(frozen=True, eq=False)
class Masked:
    """The mask at one threshold."""

    voxels: VoxelMask | None
    measured: Measurement | None
    cut: bool
    """The nodule comes to the edge of what could be looked at."""


@dataclass(frozen=True, eq=False)
class RawPrediction:
    """What one answer is made of."""

    observation: RawOutputs
    mask_mean: float
    """Mean mask probability of the best ball near the point; 1 without a mask decoder."""
    measured: Measurement | None
    cut: bool
    no_nodule: str | None
    """Why sizes would mean nothing where no mask was found, or None if they may."""
    notes: tuple[str, ...]
    """Warnings of the input."""
    solid: SolidComponent | None = None
    """The solid part; None without a mask, and where it was not asked for."""


class PointPrediction:
    """One point whose heads have been run; levels of the mask are decoded when asked for.

    What is decoded depends on the regressed diameter alone: a small nodule is drawn in the small
    patch of the heads, and in the wide one only if it does not end there; a large one in coarser
    steps. Every threshold sees the same levels, so that its mask does not depend on the others.
    """

    def __init__(self, inference: Ensemble, sampler: Sampler, observation: RawOutputs) -> None:
        self.inference, self.sampler, self.observation = inference, sampler, observation
        self._masks: dict[float, tuple[VoxelMask | None, bool]] = {}
        diameter_mm = float(np.exp(observation.outputs["equivalent_diameter_mm"][0]))
        self.reach_mm = min(diameter_mm / 2 + BEYOND_MM, MOST_REACH_MM)
        config = inference.config
        coarse = COARSE if diameter_mm >= COARSE_FROM_MM else 1
        wide = replace(config, mask_step_mm=coarse * config.mask_step_mm)
        narrow = replace(wide, mask_size_px=min(config.size_px, config.mask_size_px))
        fits = diameter_mm / 2 + BESIDE_MM <= narrow.mask_size_px * config.pixel_mm / 2
        self.patches = tuple(
            self._patch(c) for c in dict.fromkeys((narrow, wide) if fits else (wide,))
        )

    @cached_property
    def mass_patch(self) -> tuple[PatchConfig, Stack]:
        """The coarser and wider patch of what ends beyond the others."""
        pixel_mm, step_mm = MASS * self.inference.config.pixel_mm, MASS * NEIGHBOUR_MM
        config = replace(self.inference.config, pixel_mm=pixel_mm, mask_step_mm=step_mm)
        sampler = Sampler(self.sampler.ct, self.sampler.centre_lps_mm, config)

        def decode(low: int, high: int) -> NDArray[np.float32]:
            return self.inference.mask_probability(sampler, low, high, config)

        return config, Stack(decode)

    def _patch(self, config: PatchConfig) -> tuple[PatchConfig, Stack]:
        def decode(low: int, high: int) -> NDArray[np.float32]:
            return self.inference.mask_probability(self.sampler, low, high, config)

        return config, Stack(decode)

    def mask(self, threshold: float) -> Masked:
        """Return the mask of the voxels whose probability reaches the threshold."""
        voxels, cut = self._drawn(threshold)
        return Masked(voxels, measure(voxels.mask, voxels.geometry) if voxels else None, cut)

    def _drawn(self, threshold: float) -> tuple[VoxelMask | None, bool]:
        if threshold not in self._masks:
            self._masks[threshold] = self._draw(threshold)
        return self._masks[threshold]

    def _draw(self, threshold: float) -> tuple[VoxelMask | None, bool]:
        found, sampler = None, self.sampler
        for config, levels in self.patches if self.inference.draws_masks else ():
            found = grow(levels, threshold, config, self.reach_mm)
            if found is None or not found.cut:
                break
        if found is None:
            return None, False
        if found.cut:
            coarse, levels = self.mass_patch
            whole = grow(levels, threshold, coarse, MASS * self.reach_mm, MASS * MOST_REACH_MM)
            if whole is not None and not whole.cut:
                found, config = whole, coarse
        voxels = to_voxels(found, threshold, config, sampler.ct.geometry, sampler.centre_lps_mm)
        return voxels, found.cut

    def diameter_mm(self, threshold: float) -> float | None:
        """Return the equivalent diameter of the mask at a threshold, None without a mask."""
        voxels, _ = self._drawn(threshold)
        return equivalent_diameter_mm(voxels.mask, voxels.geometry) if voxels else None

    def mask_mean(self) -> float:
        """Return the greatest mean mask probability of a ball around a place near the point.

        Ball and places reach NEAR_MM: a click that is not at the centre finds its nodule.
        """
        if not self.inference.draws_masks:
            return 1.0
        from scipy.ndimage import convolve

        config, levels = self.patches[0]
        reach = math.ceil(2 * NEAR_MM / config.mask_step_mm)
        probability = levels(-reach, reach)
        across = math.ceil(2 * NEAR_MM / config.pixel_mm)
        middle = probability.shape[1] // 2  # the point lies between this pixel and the one before
        plane = slice(max(0, middle - across), middle + across)
        near = distance_mm(-reach, len(probability), config)[:, plane, plane] <= NEAR_MM
        ball = _ball(NEAR_MM, config)
        means = convolve(probability[:, plane, plane], ball / ball.sum(), mode="nearest")
        return float(means[near].max())

    def why_no_nodule(self) -> str | None:
        """Return why sizes would mean nothing where no mask was found, or None if they may."""
        ct, centre = self.sampler.ct, self.sampler.centre_lps_mm
        near = ct.crop(centre, 2 * NEIGHBOURHOOD_MM).hu
        if near.max() < AIR_BELOW_HU:
            return f"nothing but air within {NEIGHBOURHOOD_MM:.0f} mm of the point: no nodule here"
        wide = ct.crop(centre, (2 * FILLED_MM, 2 * FILLED_MM, 1.0)).hu
        if np.mean(wide > TISSUE_ABOVE_HU) > FILLED_SHARE:
            return (
                f"tissue fills {2 * FILLED_MM:.0f} mm around the point: a mass larger than the "
                "patch, or no nodule; it is not measured"
            )
        return None

    def notes(self) -> tuple[str, ...]:
        """Return the warnings of the input."""
        crop = self.sampler.crop
        assert crop is not None  # for the type checker: the heads have read it
        outside = "part of the surroundings lies outside the CT and was taken as air"
        return (*crop.warnings, outside) if crop.outside else crop.warnings

    def solid(
        self, masked: Masked, threshold_hu: float, calibration: SolidCalibration
    ) -> SolidComponent | None:
        """Return the solid part of a mask, None without a mask.

        Args:
            masked: the nodule.
            threshold_hu: density from which a voxel is solid.
            calibration: of its interval.
        """
        if masked.voxels is None:
            return None
        part = masked.voxels.geometry
        middle = (np.asarray(part.size_ijk) - 1) / 2
        corners = np.array(np.meshgrid(*((0, n - 1) for n in part.size_ijk))).reshape(3, -1).T
        extent_mm = np.ptp(part.ijk_to_lps(corners), axis=0) + 2 * SOLID_MARGIN_MM
        crop = self.sampler.ct.crop(part.ijk_to_lps(middle), extent_mm)
        mask = np.zeros(crop.hu.shape, np.uint8)
        start = np.subtract(masked.voxels.start_ijk, crop.start_ijk)
        stop = start + part.size_ijk
        mask[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))] = (
            masked.voxels.mask
        )
        return solid_component(crop.hu, mask, crop.geometry, threshold_hu, calibration)

    def seen(self, masked: Masked, solid: SolidComponent | None = None) -> RawPrediction:
        """Return what an answer is made of, with the mask of one threshold and its solid part."""
        return RawPrediction(
            self.observation,
            self.mask_mean(),
            masked.measured,
            masked.cut,
            None if masked.measured else self.why_no_nodule(),
            self.notes(),
            solid,
        )


def _ball(radius_mm: float, config: PatchConfig) -> NDArray[np.float64]:
    """Return 1 inside a ball on the mask's grid and 0 outside, of odd edges [levels, P, P]."""
    steps_mm = (config.mask_step_mm, config.pixel_mm, config.pixel_mm)
    axes = (step * np.arange(-(n := math.floor(radius_mm / step)), n + 1) for step in steps_mm)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(z**2 + y**2 + x**2 <= radius_mm**2, float)


def predict_points(
    inference: Ensemble, ct: CTVolume, centres_lps_mm: Sequence[Point]
) -> list[PointPrediction]:
    """Run the heads at several points of a CT, batched."""
    samplers = [inference.sampler(ct, centre) for centre in centres_lps_mm]
    return [
        PointPrediction(inference, sampler, observation)
        for sampler, observation in zip(samplers, inference.heads(samplers), strict=True)
    ]
