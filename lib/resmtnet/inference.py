"""From a CT and points to raw outputs of the network: sampling, views, mask levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.config import PatchConfig
from resmtnet.ct.patch import normalise, patch_points, sample, voxel_affine
from resmtnet.ct.volume import Crop, CTVolume
from resmtnet.findings import Point
from resmtnet.network.resmtnet import ResMTNet

Array = NDArray[np.float64]

VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
"""In-plane flips over which the heads are averaged."""
NEIGHBOUR_MM = 2.0
"""Distance of the levels that the mask decoder looks at, as in training."""
BATCH = 8
"""Nodules that are encoded at once."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Raw outputs for one nodule, averaged over views."""

    outputs: dict[str, Array]
    """Per task [outputs]: logits of its levels, or (log size, log sigma)."""
    class_logits: Array
    """[views, 2]"""
    embedding: NDArray[np.float32]
    """[D]"""


class Sampler:
    """Slices around one point of a CT; reads more of it only when higher levels are asked for."""

    def __init__(self, ct: CTVolume, centre_lps_mm: Point, config: PatchConfig) -> None:
        self.ct, self.centre_lps_mm, self.config = ct, centre_lps_mm, config
        self.crop: Crop | None = None
        self._reach_mm = 0.0

    def slices(self, heights_mm: Sequence[float]) -> Tensor:
        """Return normalised slices [L, P, P] at heights above the centre."""
        reach_mm = max(abs(height) for height in heights_mm)
        if self.crop is None or reach_mm > self._reach_mm:
            edge_mm = (self.config.size_px - 1) * self.config.pixel_mm
            self.crop = self.ct.crop(self.centre_lps_mm, (edge_mm, edge_mm, 2 * reach_mm))
            self._reach_mm = reach_mm
        points = patch_points(torch.tensor([list(heights_mm)]), self.config)[0]
        affine = voxel_affine(self.crop.geometry, self.centre_lps_mm)
        return normalise(sample(torch.from_numpy(self.crop.hu), affine, points), self.config)


class Inference:
    """One network and its patch; every answer of the package goes through here."""

    def __init__(self, network: ResMTNet, config: PatchConfig, device: str = "cpu") -> None:
        self.network, self.config, self.device = network.fused(), config, device

    def sampler(self, ct: CTVolume, centre_lps_mm: Point) -> Sampler:
        """Return the source of slices around a point."""
        return Sampler(ct, centre_lps_mm, self.config)

    @torch.inference_mode()
    def heads(self, samplers: Sequence[Sampler]) -> list[Observation]:
        """Run the heads for several nodules, in batches."""
        found: list[Observation] = []
        for start in range(0, len(samplers), BATCH):
            found += self._heads(samplers[start : start + BATCH])
        return found

    def _heads(self, samplers: Sequence[Sampler]) -> list[Observation]:
        offsets = self.config.offsets_mm
        slices = torch.stack([sampler.slices(offsets) for sampler in samplers])  # [B, S, P, P]
        views = torch.cat([slices.flip(axes) if axes else slices for axes in VIEWS])
        batch, count = len(samplers), len(views)  # views are the slow axis
        raw = self.network(self.network.encode(views.to(self.device)), count)
        tasks = {
            name: values.float().cpu().double().numpy().reshape(len(VIEWS), batch, -1)
            for name, values in raw.tasks.items()
        }
        embedding = raw.embedding.float().cpu().numpy().reshape(len(VIEWS), batch, -1).mean(0)
        return [
            Observation(
                {name: values[:, n].mean(0) for name, values in tasks.items()},
                tasks["class"][:, n],
                embedding[n],
            )
            for n in range(batch)
        ]

    @torch.inference_mode()
    def mask_probability(self, sampler: Sampler, low: int, high: int) -> NDArray[np.float32]:
        """Return the nodule probability of levels low..high (inclusive), mask_step_mm apart.

        Returns:
            [high - low + 1, P, P], rows along P, columns along L.
        """
        step_mm = self.config.mask_step_mm
        halo = max(1, round(NEIGHBOUR_MM / step_mm))
        heights = [level * step_mm for level in range(low - halo, high + halo + 1)]
        slices = sampler.slices(heights)[None].to(self.device)
        features = self.network.encode(slices)
        logits = self.network.masks(features, len(heights), step=halo, inner=halo)
        probability: NDArray[np.float32] = logits[0].float().sigmoid().cpu().numpy()
        return probability
