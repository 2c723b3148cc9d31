"""Invents lung above and below a stack that holds only the slices of the nodule.

Where a stack ends, the end slice fades into a copy of itself from which the nodule is inpainted,
and which drifts with the distance as vessels and walls do. What is padded must not tell where the
nodule ended: the fade begins at a random distance, and the copy keeps the slice's own texture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

INPAINT_STEPS = 80
MARGIN_PX = 4
TEXTURE_HU = 110.0


def continue_ends(
    hu: NDArray[np.int16],
    mask: NDArray[np.uint8],
    spacing_kji_mm: tuple[float, float, float],
    beyond_mm: float,
    generator: torch.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.uint8], int]:
    """Add synthesised slices below and above a stack.

    Args:
        hu: [n, H, W].
        mask: [n, H, W] readers' mask, 255 = inside.
        spacing_kji_mm: of the stack.
        beyond_mm: height to add at either end.
        generator: source of the randomness.

    Returns:
        HU and mask with the slices added, and how many were added below.
    """
    dz = spacing_kji_mm[0]
    added = math.ceil(beyond_mm / dz)
    ends = torch.from_numpy(hu[[0, -1]].astype(np.float32))[:, None]
    marked = torch.from_numpy(mask[[0, -1]].astype(np.float32))[:, None]
    around = F.max_pool2d((marked > 0).float(), 2 * MARGIN_PX + 1, 1, MARGIN_PX) > 0
    empty = inpaint(ends, around, generator)
    parts = []
    for end in range(2):
        distance_mm = torch.arange(1, added + 1, dtype=torch.float32) * dz
        fade_mm = max(dz * (0.7 + 0.5 * float(torch.rand(1, generator=generator))), 0.8)
        share = (distance_mm / fade_mm).clamp(max=1)[:, None, None]
        drifted = drift(empty[end], distance_mm, spacing_kji_mm[1], generator)
        parts.append(((1 - share) * ends[end] + share * drifted).round().numpy().astype(np.int16))
    below, above = parts[0][::-1], parts[1]
    blank = np.zeros_like(below, np.uint8)
    return np.concatenate([below, hu, above]), np.concatenate([blank, mask, blank]), added


def inpaint(slices: Tensor, hole: Tensor, generator: torch.Generator) -> Tensor:
    """Fill holes smoothly from their rim, then with texture from elsewhere in the slice.

    Args:
        slices: [N, 1, H, W] HU.
        hole: [N, 1, H, W] bool.
        generator: chooses where the texture comes from.
    """
    known = (~hole).float()
    pyramid = [(slices * known, known)]
    while min(pyramid[-1][0].shape[-2:]) > 3:
        value, weight = pyramid[-1]
        pyramid.append((F.avg_pool2d(value, 2), F.avg_pool2d(weight, 2)))
    filled = pyramid[-1][0] / pyramid[-1][1].clamp(min=1e-3)
    for value, weight in pyramid[-2::-1]:
        filled = F.interpolate(filled, size=value.shape[-2:], mode="bilinear")
        filled = torch.where(weight > 0, value / weight.clamp(min=1e-3), filled)
    filled = torch.where(hole, filled, slices)
    for _ in range(INPAINT_STEPS):  # Jacobi steps towards the harmonic filling
        rim = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        rows = rim[..., :-2, 1:-1] + rim[..., 2:, 1:-1]
        columns = rim[..., 1:-1, :-2] + rim[..., 1:-1, 2:]
        filled = torch.where(hole, (rows + columns) / 4, filled)
    smooth = F.avg_pool2d(F.pad(slices, (2, 2, 2, 2), mode="replicate"), 5, 1)
    texture = (slices - smooth).clamp(-TEXTURE_HU, TEXTURE_HU) * known
    borrowed = torch.zeros_like(slices)
    for _ in range(4):
        dy, dx = (int(n) for n in torch.randint(-20, 21, (2,), generator=generator))
        borrowed = torch.where(borrowed == 0, torch.roll(texture, (dy, dx), (2, 3)), borrowed)
    return torch.where(hole, filled + borrowed, filled)


def drift(
    slice_hu: Tensor, distance_mm: Tensor, pixel_mm: float, generator: torch.Generator
) -> Tensor:
    """Return copies of a slice that wander, turn, grow and bend with the distance.

    Args:
        slice_hu: [1, H, W].
        distance_mm: [D], ascending.
        pixel_mm: in-plane spacing.
        generator: draws the motion.

    Returns:
        [D, H, W].
    """
    levels, (height, width) = len(distance_mm), slice_hu.shape[-2:]
    extent_mm = torch.tensor([width, height]) * pixel_mm / 2
    slope = torch.randn(4, generator=generator) * torch.tensor([0.35, 0.35, 0.012, 0.012])
    wobble = torch.randn(levels, 2, generator=generator).cumsum(0) * 0.25
    wobble = wobble * (distance_mm / (distance_mm + 4))[:, None]
    turn, grow = slope[2] * distance_mm, 1 + slope[3] * distance_mm.clamp(max=25)
    theta = torch.zeros(levels, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(turn) * grow
    theta[:, 1, 0] = torch.sin(turn) * grow
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = (slope[:2] * distance_mm[:, None] + wobble) / extent_mm
    grid = F.affine_grid(theta, [levels, 1, height, width], align_corners=False)
    bend = torch.randn(1, 2, 4, 4, 4, generator=generator)
    bend = F.interpolate(bend, (levels, height, width), mode="trilinear", align_corners=True)
    strength = distance_mm.clamp(max=20) * 0.1 / extent_mm.mean()
    grid = grid + bend[0].permute(1, 2, 3, 0) * strength[:, None, None, None]
    source = slice_hu[None].expand(levels, 1, height, width)
    return F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)[:, 0]
