"""The mask of one nodule: grown level by level from the click, then put on the CT's own voxels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.config import PatchConfig
from resmtnet.ct.geometry import Geometry

STEP_MM = 8.0
"""Height by which the search goes on where the nodule does."""
MOST_REACH_MM = 40.0
"""Height beyond which nothing is looked at."""
RIM_PX = 2
"""A mask that comes so near to the patch's edge counts as cut by it."""
NEAR_MM, FAR_MM = 3.0, 6.0
"""The nodule is the largest component within NEAR_MM of the click, else within FAR_MM."""

Levels = Callable[[int, int], NDArray[np.float32]]
"""(lowest, highest) level -> probabilities [levels, P, P]."""


@dataclass(frozen=True, eq=False)
class PatchMask:
    """Probability of one nodule on the grid of the patch; 0 where another structure is."""

    probability: NDArray[np.float32]
    """[levels, P, P]"""
    low: int
    """Level of the first slice, in steps from the click."""
    cut: bool
    """The nodule comes to the edge of what could be looked at."""


@dataclass(frozen=True, eq=False)
class VoxelMask:
    """Mask on the CT's own voxels."""

    mask: NDArray[np.uint8]
    """[k, j, i]"""
    start_ijk: tuple[int, int, int]
    geometry: Geometry
    """Of the sub-volume."""


class Stack:
    """Levels that are decoded once each: a run around the click, longer as more is asked for."""

    def __init__(self, decode: Levels) -> None:
        self._decode = decode
        self._known: NDArray[np.float32] | None = None
        self._low = self._high = 0

    def __call__(self, low: int, high: int) -> NDArray[np.float32]:
        """Return levels low..high, which hold the click (low <= 0 <= high)."""
        known = self._known
        if known is None:
            known, self._low, self._high = self._decode(low, high), low, high
        if low < self._low:
            known = np.concatenate([self._decode(low, self._low - 1), known])
            self._low = low
        if high > self._high:
            known = np.concatenate([known, self._decode(self._high + 1, high)])
            self._high = high
        self._known = known
        return known[low - self._low : high - self._low + 1]


def grow(
    levels: Levels,
    threshold: float,
    config: PatchConfig,
    first_reach_mm: float = STEP_MM,
    most_reach_mm: float = MOST_REACH_MM,
) -> PatchMask | None:
    """Find the nodule at the click, looking further up and down only while it goes on.

    Args:
        levels: gives the probabilities of levels; see Stack.
        threshold: from which a pixel belongs to the nodule.
        config: of the patch.
        first_reach_mm: height on either side of the click that is looked at first; it decides
            how often levels are asked for, not what is found.
        most_reach_mm: height beyond which nothing is looked at.

    Returns:
        The nodule, or None where nothing near the click is one.
    """
    step_mm = config.mask_step_mm
    chunk, limit = math.ceil(STEP_MM / step_mm), math.floor(most_reach_mm / step_mm)
    high = min(limit, math.ceil(first_reach_mm / step_mm))
    low = -high
    while True:
        probability = levels(low, high)
        component = _component(probability >= threshold, low, config)
        if component is None:
            return None
        down = bool(component[0].any()) and low > -limit
        up = bool(component[-1].any()) and high < limit
        if not (down or up):
            break
        low = max(low - chunk, -limit) if down else low
        high = min(high + chunk, limit) if up else high
    inner = slice(RIM_PX, config.mask_size_px - RIM_PX)
    rim = component.sum() > component[:, inner, inner].sum()
    cut = bool(rim or component[0].any() or component[-1].any())
    return PatchMask(np.where(_with_fringe(component), probability, 0), low, cut)


def distance_mm(low: int, count: int, config: PatchConfig) -> NDArray[np.float64]:
    """Return the distance of every point of `count` levels from the click, [count, P, P] mm."""
    z = (np.arange(count) + low) * config.mask_step_mm
    line = (np.arange(config.mask_size_px) - (config.mask_size_px - 1) / 2) * config.pixel_mm
    return np.asarray(np.sqrt(z[:, None, None] ** 2 + line[:, None] ** 2 + line**2))


def _component(
    inside: NDArray[np.bool_], low: int, config: PatchConfig
) -> NDArray[np.bool_] | None:
    from scipy.ndimage import label

    parts, count = label(inside)
    if not count:
        return None
    distance = distance_mm(low, len(inside), config)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    for reach in (NEAR_MM, FAR_MM):
        near = np.unique(parts[distance <= reach])
        near = near[near > 0]
        if len(near):
            return np.asarray(parts == near[sizes[near].argmax()])
    return None


def _with_fringe(component: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep one pixel around, so that interpolation sees the soft edge."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    return np.asarray(binary_dilation(component, generate_binary_structure(3, 3)))


def to_voxels(
    found: PatchMask,
    threshold: float,
    config: PatchConfig,
    grid: Geometry,
    centre_lps_mm: tuple[float, float, float],
) -> VoxelMask | None:
    """Put a mask on the CT's voxels: those whose interpolated probability reaches the threshold.

    Args:
        found: mask on the patch.
        threshold: the one it was grown with.
        config: of the patch.
        grid: of the whole CT.
        centre_lps_mm: of the patch.

    Returns:
        The mask, or None if no voxel centre lies inside it.
    """
    from scipy.ndimage import affine_transform

    step = np.array([config.mask_step_mm, config.pixel_mm, config.pixel_mm])  # z, y, x
    zero = np.array([-found.low, *[(config.mask_size_px - 1) / 2] * 2])  # index of the centre
    inside = np.argwhere(found.probability > 0)
    bounds = (np.stack([inside.min(0) - 1, inside.max(0) + 1]) - zero) * step
    corners = np.array(np.meshgrid(*bounds.T[::-1], indexing="ij")).reshape(3, -1).T
    index = grid.lps_to_ijk(corners + centre_lps_mm)
    start = np.maximum(np.floor(index.min(0)).astype(int), 0)
    stop = np.minimum(np.ceil(index.max(0)).astype(int) + 1, grid.size_ijk)
    if (stop <= start).any():
        return None
    corner_and_next_ijk = start + np.concatenate([np.zeros((1, 3)), np.eye(3)])
    at = (grid.ijk_to_lps(corner_and_next_ijk) - centre_lps_mm)[:, ::-1] / step + zero
    probability = affine_transform(
        found.probability, (at[1:] - at[0]).T, at[0], tuple(stop - start), order=1
    )
    mask = (probability >= threshold).transpose(2, 1, 0)  # [k, j, i]
    if not mask.any():
        return None
    used = np.argwhere(mask)
    first, last = used.min(0), used.max(0) + 1
    mask = mask[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    i, j, k = (int(n) for n in start + first[::-1])
    part = grid.sub((i, j, k), mask.shape[::-1])
    return VoxelMask(np.ascontiguousarray(mask, np.uint8), (i, j, k), part)
