"""The one preprocessing of training and inference: sampling and HU windowing of patches.

A patch is a set of axial slices in LPS axes around a centre, whatever the voxel order of the CT:
pixel columns run along L (x), rows along P (y), levels along S (z).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resmtnet.config import PatchConfig
from resmtnet.ct.geometry import Geometry

AIR_HU = -1024


def patch_points(
    heights_mm: Tensor,
    config: PatchConfig,
    matrix: Tensor | None = None,
    shift_mm: Tensor | None = None,
) -> Tensor:
    """Return the points of patches, as LPS offsets from their centres.

    Args:
        heights_mm: [B, L] level of each slice above the centre.
        config: in-plane size and pixel.
        matrix: [B, 3, 3] from patch axes (x, y, z) to LPS, for augmentation; identity if None.
        shift_mm: [B, 3] LPS shift added last, for augmentation.

    Returns:
        [B, L, P, P, 3] offsets (x, y, z), mm.
    """
    batch, levels = heights_mm.shape
    p = config.size_px
    line = (torch.arange(p, dtype=torch.float32) - (p - 1) / 2) * config.pixel_mm
    points = torch.empty(batch, levels, p, p, 3)
    points[..., 0] = line
    points[..., 1] = line[:, None]
    points[..., 2] = heights_mm[:, :, None, None]
    if matrix is not None:
        points = torch.einsum("blhwc,bdc->blhwd", points, matrix)
    if shift_mm is not None:
        points = points + shift_mm[:, None, None, None]
    return points


def voxel_affine(geometry: Geometry, centre_lps_mm: Sequence[float]) -> Tensor:
    """Return the 3 x 4 affine from LPS offsets (x, y, z) of a centre to voxel indices (i, j, k)."""
    shift = geometry.lps_to_ijk(np.asarray(centre_lps_mm, float))
    return torch.from_numpy(np.column_stack([geometry.index_per_mm, shift]).astype(np.float32))


def axial_affine(spacing_kji_mm: Sequence[float], centre_kji: Sequence[float]) -> Tensor:
    """Return the same affine for a stored crop whose axes k, j, i run along S, P, L."""
    scale = [1 / mm for mm in reversed(spacing_kji_mm)]
    matrix = np.column_stack([np.diag(scale), list(reversed(centre_kji))])
    return torch.from_numpy(matrix.astype(np.float32))


def sample(volume: Tensor, affine: Tensor, points: Tensor, *, outside: str = "border") -> Tensor:
    """Interpolate a volume trilinearly at points.

    Args:
        volume: [D, H, W], any number type.
        affine: [3, 4] from offsets to voxel indices (i, j, k).
        points: [..., 3] offsets (x, y, z), mm.
        outside: "border" continues the last voxel, "zeros" does not.

    Returns:
        [...] float32.
    """
    index = points.reshape(-1, 3) @ affine[:, :3].T + affine[:, 3]
    size = torch.tensor([max(n - 1, 1) for n in reversed(volume.shape)], dtype=torch.float32)
    grid = (2 * index / size - 1).view(1, 1, 1, -1, 3)
    values = F.grid_sample(
        volume[None, None].float(), grid, padding_mode=outside, align_corners=True
    )
    return values.view(points.shape[:-1])


def normalise(patch_hu: Tensor, config: PatchConfig) -> Tensor:
    """Scale HU to the network's input: the window [hu_low, hu_high] becomes [-1.25, 2.75].

    >>> normalise(torch.tensor([-2000.0, -1000.0, 400.0]), PatchConfig())
    tensor([-1.2500, -1.2500,  2.7500])
    """
    share = (patch_hu - config.hu_low) / (config.hu_high - config.hu_low)
    return share.clamp(0, 1) * 4 - 1.25


def axial_points(
    config: PatchConfig, matrix: Tensor, shift_mm: Tensor, spacing_mm: Tensor, centre: Tensor
) -> Tensor:
    """Return where the pixels of axial patches lie in the slices of stored crops.

    The in-plane half of patch_points, for augmentations that keep slices axial.

    Args:
        config: in-plane size and pixel.
        matrix: [B, 3, 3] from patch axes to LPS; rows and columns of z mix with no other.
        shift_mm: [B, 3] LPS.
        spacing_mm: [B, 3] k, j, i of the crops.
        centre: [B, 3] voxel index k, j, i of the nodules' centres.

    Returns:
        [B, P, P, 2] voxel index (i, j).
    """
    p = config.size_px
    line = (torch.arange(p, device=matrix.device) - (p - 1) / 2) * config.pixel_mm
    plane = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)  # [P, P, (x, y)]
    points = torch.einsum("hwc,bdc->bhwd", plane, matrix[:, :2, :2]) + shift_mm[:, None, None, :2]
    return points / spacing_mm[:, None, None, [2, 1]] + centre[:, None, None, [2, 1]]


def sample_axial(slices: Tensor, index: Tensor, share: Tensor, points: Tensor) -> Tensor:
    """Interpolate axial patches out of stored slices; equals `sample`, many times faster.

    Args:
        slices: [T, H, W], any number type; every crop's slices one after the other.
        index: [B, L, K] slices to mix for each level.
        share: [B, L, K] weight of each; those that sum to less than 1 fade to 0.
        points: [B, P, P, 2] voxel index (i, j) of the pixels, the same for all levels.

    Returns:
        [B, L, P, P] float32; beyond the slice's edge its last pixels are continued.
    """
    height, width = slices.shape[1:]
    mixed = torch.zeros(*index.shape[:2], height, width, device=slices.device)
    for k in range(index.shape[2]):
        mixed.addcmul_(slices[index[..., k]].float(), share[..., k, None, None])
    size = torch.tensor([width - 1, height - 1], device=points.device)
    grid = 2 * points / size - 1
    return F.grid_sample(mixed, grid, padding_mode="border", align_corners=True)
