"""Random changes of training patches: the geometry of the sampling, then the HU."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from resmtnet.config import AugmentConfig


class Motion(NamedTuple):
    """Random geometry of a batch of patches."""

    matrix: Tensor
    """[B, 3, 3] from patch axes to LPS, see ct.patch.patch_points."""
    shift_mm: Tensor
    """[B, 3] LPS."""
    log_scale: Tensor
    """[B] by which log sizes grow."""


def draw_motion(
    batch: int, config: AugmentConfig, generator: torch.Generator, in_plane_shift_mm: float
) -> Motion:
    """Draw rotation about the axis, flips, scale and shift of each patch."""
    uniform = torch.rand(batch, 5, generator=generator) * 2 - 1
    log_scale = uniform[:, 0] * math.log1p(config.scale)
    limit = torch.tensor([in_plane_shift_mm, in_plane_shift_mm, config.shift_mm])
    matrix = torch.eye(3).repeat(batch, 1, 1)
    if config.flip_and_rotate:
        angle = uniform[:, 1] * math.pi
        matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
        matrix[:, 1, 0] = torch.sin(angle)
        matrix[:, 0, 1] = -matrix[:, 1, 0]
        flips = torch.randint(0, 2, (batch, 3), generator=generator) * 2.0 - 1
        matrix = matrix * flips[:, None, :]
    return Motion(matrix / log_scale.exp()[:, None, None], uniform[:, 2:] * limit, log_scale)


def change_hu(patches_hu: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change contrast, offset, sharpness and noise of patches [B, L, H, W], each in its own way."""
    draw = torch.rand(5, len(patches_hu), 1, 1, 1, generator=generator)
    gain, offset = draw[0] * 2 - 1, draw[1] * 2 - 1
    hu = patches_hu * (1 + gain * config.gain) + offset * config.offset_hu
    mean = F.avg_pool2d(F.pad(hu, (1, 1, 1, 1), mode="replicate"), 3, 1)
    hu = torch.lerp(hu, mean, draw[2] * config.blur * (draw[3] < 0.4))
    return hu + torch.randn(hu.shape, generator=generator) * draw[4] * config.noise_hu
