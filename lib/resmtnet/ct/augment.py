"""Random augmentation of training patches: first their geometry, then their HU."""

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

    def to(self, device: torch.device) -> Motion:
        """Return the motion on a device."""
        return Motion(*(part.to(device) for part in self))


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


def draw_thickness(batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw by how many mm the slices of each patch are thickened, 0 for most; [B]."""
    draw = torch.rand(2, batch, generator=generator)
    return draw[0] * config.thickness_mm * (draw[1] < config.thickness_share)


class Intensity(NamedTuple):
    """Random change of the HU of a batch of patches, each [B, 1, 1, 1]."""

    gain: Tensor
    offset_hu: Tensor
    kernel: Tensor
    """Share of a 3 x 3 mean blended in: a softer reconstruction kernel; negative is sharper."""
    noise_hu: Tensor

    def to(self, device: torch.device) -> Intensity:
        """Return the change on a device."""
        return Intensity(*(part.to(device) for part in self))


def draw_intensity(batch: int, config: AugmentConfig, generator: torch.Generator) -> Intensity:
    """Draw contrast, offset, reconstruction kernel and noise of each patch."""
    draw = torch.rand(5, batch, 1, 1, 1, generator=generator)
    kernel = draw[2] * (config.blur + config.sharpen) - config.sharpen
    return Intensity(
        1 + (draw[0] * 2 - 1) * config.gain,
        (draw[1] * 2 - 1) * config.offset_hu,
        kernel * (draw[3] < config.kernel_share),
        draw[4] * config.noise_hu,
    )


def change_hu(patches_hu: Tensor, change: Intensity, noise: Tensor) -> Tensor:
    """Apply a change to patches.

    Args:
        patches_hu: [B, L, H, W].
        change: of each patch, on the same device.
        noise: [B, L, H, W], standard normal.
    """
    hu = patches_hu * change.gain + change.offset_hu
    mean = F.avg_pool2d(F.pad(hu, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return hu + change.kernel * (mean - hu) + noise * change.noise_hu


SOLID_ABOVE_HU = -300.0
"""Mean of a nodule that is solid enough to be faded."""
LUNG_HU = (-950.0, -700.0)
"""Range of what may be taken for the lung around a nodule."""


def draw_fading(batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw the share of its contrast that the nodule of each patch loses, 0 for most; [B]."""
    draw = torch.rand(2, batch, generator=generator)
    least, most = config.fade
    return (least + (most - least) * draw[0]) * (draw[1] < config.faded_share)


def fade_nodules(patches_hu: Tensor, inside: Tensor, amount: Tensor) -> Tensor:
    """Fade solid nodules to ground glass; what is left of their texture and edge stays in place.

    Large nodules of ground glass are rare, and their masks are the hardest to draw.

    Args:
        patches_hu: [B, L, H, W].
        inside: [B, L, H, W] share of readers that call the pixel nodule, 0..1.
        amount: [B] share of the contrast that is taken away.
    """
    area = inside.sum((1, 2, 3))
    mean = (patches_hu * inside).sum((1, 2, 3)) / area.clamp(min=1e-6)
    amount = amount * ((area > 0) & (mean > SOLID_ABOVE_HU))
    low, high = LUNG_HU
    lung = patches_hu.flatten(1).quantile(0.3, 1).clamp(low, high)
    change = (lung[:, None, None, None] - patches_hu) * inside
    return patches_hu + amount[:, None, None, None] * change
