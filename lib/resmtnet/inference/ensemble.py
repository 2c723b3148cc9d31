"""From a CT and points to raw outputs of the members: sampling, views, mask levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.characteristics import NODULE, TASKS, Task
from resmtnet.config import PatchConfig
from resmtnet.ct.patch import normalise, patch_points, sample, voxel_affine
from resmtnet.ct.volume import Crop, CTVolume
from resmtnet.errors import ModelError
from resmtnet.inference.fallback import Place
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.types import Array, Point

VIEWS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
"""In-plane flips over which the heads are averaged; a member may see fewer of them."""
MASK_VIEWS = 1
"""How many of these flips each member decodes the mask from; members begin at different ones."""
NEIGHBOUR_MM = 2.0
"""Distance of the levels that the mask decoder looks at, as in training."""
LEAST_HEIGHT_MM = 0.1
"""Of what is read of a CT, where a network looks at the slice of the point alone."""
BATCH = 8
"""Nodules that are encoded at once."""
ABSENT_SIZE = (float(np.log(8.0)), float(np.log(0.4)))
"""What stands for a size that a network has no head for: the typical nodule, within 40%."""


@dataclass(frozen=True, eq=False)
class RawOutputs:
    """Raw outputs for one nodule, by member and view."""

    views: Mapping[str, Array]
    """Per task [members, views, outputs]: logits of its levels, or (log size, log sigma)."""
    embeddings: NDArray[np.float32]
    """[members, D], mean over the views."""

    @cached_property
    def outputs(self) -> dict[str, Array]:
        """Per task [outputs], the mean over members and views.

        Logits are averaged, not probabilities: a head's last layer is linear, so this is what
        it says of the mean embedding, and the scaling that follows is fitted on the average.
        """
        return {name: values.mean((0, 1)) for name, values in self.views.items()}

    @property
    def embedding(self) -> NDArray[np.float32]:
        """[members * D], one member after the other."""
        return self.embeddings.reshape(-1)


class Sampler:
    """Slices around one point of a CT; reads more of it only when higher levels are asked for."""

    def __init__(self, ct: CTVolume, centre_lps_mm: Point, config: PatchConfig) -> None:
        self.ct, self.centre_lps_mm, self.config = ct, centre_lps_mm, config
        self.crop: Crop | None = None
        self._reach_mm = 0.0

    def slices(self, heights_mm: Sequence[float], size_px: int | None = None) -> Tensor:
        """Return normalised slices [L, P, P] at heights above the centre.

        Args:
            heights_mm: of the slices.
            size_px: P; None: size_px of the configuration, what the heads see.
        """
        patch = replace(self.config, size_px=size_px or self.config.size_px)
        reach_mm = max(abs(height) for height in heights_mm)
        if self.crop is None or reach_mm > self._reach_mm:
            widest_px = max(self.config.size_px, self.config.mask_size_px)
            edge_mm = (widest_px - 1) * self.config.pixel_mm
            height_mm = max(2 * reach_mm, LEAST_HEIGHT_MM)
            self.crop = self.ct.crop(self.centre_lps_mm, (edge_mm, edge_mm, height_mm))
            self._reach_mm = reach_mm
        points = patch_points(torch.tensor([list(heights_mm)]), patch)[0]
        affine = voxel_affine(self.crop.geometry, self.centre_lps_mm)
        return normalise(sample(torch.from_numpy(self.crop.hu), affine, points), self.config)


class Ensemble:
    """The members and their patch; every answer of the package goes through here."""

    def __init__(
        self,
        networks: Sequence[ResMTNet],
        config: PatchConfig,
        device: str = "cpu",
        head_views: int = len(VIEWS),
    ) -> None:
        """Fold the norms of the members.

        Args:
            networks: the members.
            config: of their patch.
            device: of the networks.
            head_views: how many of VIEWS the heads of each member see; members begin at different
                ones.

        Raises:
            ModelError: no networks.
        """
        if not networks:
            raise ModelError("a model without members cannot answer; give at least one network")
        self.place = Place([network.fused() for network in networks], device)
        self.config = config
        self._views_of = [
            [VIEWS[(n * head_views + view) % len(VIEWS)] for view in range(head_views)]
            for n in range(len(networks))
        ]

    @property
    def members(self) -> tuple[ResMTNet, ...]:
        """The networks, on their device."""
        return self.place.members

    @property
    def draws_masks(self) -> bool:
        """The members have a mask decoder."""
        return self.members[0].config.mask

    def sampler(self, ct: CTVolume, centre_lps_mm: Point) -> Sampler:
        """Return the source of slices around a point."""
        return Sampler(ct, centre_lps_mm, self.config)

    @torch.inference_mode()
    def heads(self, samplers: Sequence[Sampler]) -> list[RawOutputs]:
        """Run the heads for several nodules, in batches."""
        return self._in_batches(samplers, self._views_of)

    @torch.inference_mode()
    def glimpse(self, samplers: Sequence[Sampler]) -> list[dict[str, Array]]:
        """Return what one view of the first member says of several nodules, as RawOutputs do."""
        first = [self._views_of[0][:1]]
        return [one.outputs for one in self._in_batches(samplers, first)]

    def _in_batches(
        self, samplers: Sequence[Sampler], views_of: Sequence[Sequence[tuple[int, ...]]]
    ) -> list[RawOutputs]:
        found: list[RawOutputs] = []
        for start in range(0, len(samplers), BATCH):
            part = samplers[start : start + BATCH]
            found += self.place.run(partial(self._heads, part, views_of))
        return found

    def _heads(
        self,
        samplers: Sequence[Sampler],
        views_of: Sequence[Sequence[tuple[int, ...]]],
        members: Sequence[ResMTNet],
        device: str,
    ) -> list[RawOutputs]:
        """Run the heads of the first members, each for its own views."""
        slices = self._slices(samplers).to(device)
        batch = len(samplers)
        raws = []
        for member, flips in zip(members, views_of, strict=False):
            views = torch.cat([slices.flip(axes) if axes else slices for axes in flips])
            raws.append(member(member.encode(views), len(views)))
        count = len(views_of[0])

        def by_member(values: Sequence[Tensor]) -> Array:  # [members, views, B, outputs]
            stacked = torch.stack(list(values)).float().cpu().double().numpy()
            return stacked.reshape(len(raws), count, batch, -1)

        tasks = {
            task.name: by_member([raw.tasks[task.name] for raw in raws])
            if task.name in raws[0].tasks
            else _absent(task, (len(raws), count, batch))
            for task in (*TASKS, *((NODULE,) if NODULE.name in raws[0].tasks else ()))
        }
        embeddings = by_member([raw.embedding for raw in raws]).mean(1).astype(np.float32)
        return [
            RawOutputs({name: v[:, :, n] for name, v in tasks.items()}, embeddings[:, n])
            for n in range(batch)
        ]

    def _slices(self, samplers: Sequence[Sampler]) -> Tensor:
        """Return the slices that the heads see, [B, S, P, P]."""
        offsets = self.config.offsets_mm
        return torch.stack([sampler.slices(offsets) for sampler in samplers])

    @torch.inference_mode()
    def mask_probability(
        self, sampler: Sampler, low: int, high: int, config: PatchConfig
    ) -> NDArray[np.float32]:
        """Return the nodule probability of levels low..high (inclusive), mean over members.

        Args:
            sampler: of the nodule.
            low: first level, in steps from the centre.
            high: last level.
            config: in-plane size and distance of the levels that are drawn, mask_size_px and
                mask_step_mm; those of the network's own configuration or others.

        Returns:
            [high - low + 1, P, P], rows along P, columns along L.
        """
        return self.place.run(partial(self._masks, sampler, low, high, config))

    def _masks(
        self,
        sampler: Sampler,
        low: int,
        high: int,
        config: PatchConfig,
        members: Sequence[ResMTNet],
        device: str,
    ) -> NDArray[np.float32]:
        halo = neighbour_levels(config.mask_step_mm)
        levels = range(low - halo, high + halo + 1)
        heights = [level * config.mask_step_mm for level in levels]
        slices = sampler.slices(heights, config.mask_size_px)[None].to(device)
        passes = [
            (member, VIEWS[(n * MASK_VIEWS + view) % len(VIEWS)])
            for n, member in enumerate(members)
            for view in range(MASK_VIEWS)
        ]
        total = torch.zeros(high - low + 1, *slices.shape[2:], device=device)
        for member, axes in passes:
            features = member.encode(slices.flip(axes) if axes else slices)
            logits = member.masks(features, len(heights), step=halo, inner=halo)
            probability = logits[0].float().sigmoid()
            total += probability.flip(axes) if axes else probability
        mean: NDArray[np.float32] = (total / len(passes)).cpu().numpy()
        return mean


def neighbour_levels(step_mm: float) -> int:
    """Return how many levels away the neighbours are that the mask decoder looks at.

    >>> neighbour_levels(1.0), neighbour_levels(2.0), neighbour_levels(5.0)
    (2, 1, 1)
    """
    return max(1, round(NEIGHBOUR_MM / step_mm))


def _absent(task: Task, shape: tuple[int, ...]) -> Array:
    """Return what stands for a head that an ablated network lacks: no knowledge at all."""
    says = ABSENT_SIZE if task.kind == "size" else (0.0,) * task.outputs
    return np.broadcast_to(np.array(says), (*shape, task.outputs))
