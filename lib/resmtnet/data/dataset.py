"""Draws training batches from the crops of an archive: random patches and their targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from resmtnet.characteristics import SIZES
from resmtnet.config import AugmentConfig, TrainingConfig
from resmtnet.ct.augment import (
    Motion,
    change_hu,
    draw_fading,
    draw_intensity,
    draw_motion,
    draw_thickness,
    fade_nodules,
)
from resmtnet.ct.patch import axial_points, normalise, sample_axial
from resmtnet.data.archive import Nodule
from resmtnet.data.crops import CropBlock
from resmtnet.data.targets import targets_of

LARGE_MM = 15.0
SUBSOLID_BELOW = 3.5
EXTRA_LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)
"""Heights of a run of mask levels around a random one, mm; the outer two are neighbours only."""
MASK_LEVELS = (-6.0, *EXTRA_LEVELS, 6.0)
"""The same where nothing but the mask is trained."""
MIRRORED_SHARE = 0.8
"""How often the surroundings of a nodule are mirrored as those of negatives are."""
NEAREST_BORDER_PX = 14
"""Least distance of that border from the centre, pixels of the stack, as for negatives."""
BEYOND_ENDS_MM = 7.0
"""How far beyond a nodule's ends the mask is trained to say nothing."""


class Batch(NamedTuple):
    """One step of training; every process has its own rows of it."""

    slices: Tensor
    """[B, S, P, P] normalised input of the heads."""
    slices_mask: Tensor
    """[B, S - 2, P, P] share of readers, of the inner slices."""
    targets: dict[str, Tensor]
    extra: Tensor
    """[M, L, P, P] normalised input of the mask at random heights."""
    extra_mask: Tensor
    """[M, L - 2, P, P] share of readers, of the inner levels."""
    total: int
    """Nodules of the step over all processes, by which its losses are divided."""


@dataclass(frozen=True)
class Rows:
    """Which rows of a batch a process makes: all processes draw alike, each samples its own."""

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """Return the rows of a batch of `count`."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)


class TrainingSet:
    """Random batches of some of an archive's nodules."""

    def __init__(
        self,
        block: CropBlock,
        nodules: Sequence[Nodule],
        index: Sequence[int],
        config: TrainingConfig,
        rows: Rows = Rows(),
        negatives: Sequence[TrainingSet] = (),
    ) -> None:
        """See the attributes.

        Args:
            block: crops of the whole archive, on the training device.
            nodules: of the whole archive.
            index: the nodules to train on.
            config: of the experiment.
            rows: of this process.
            negatives: places without a nodule; every batch draws as many of each set.
        """
        self.negatives = tuple(negatives)
        self.config, self.block, self.rows = config, block, rows
        self.device = block.voxels.device
        self.index = torch.tensor(list(index))
        self.nodules = [nodules[n] for n in index]
        with_negatives = bool(negatives) or any(n.nodule_label == 0 for n in self.nodules)
        self.targets = targets_of(
            self.nodules, config.subsolid_factor, with_negatives=with_negatives
        )
        self._draw_weight = torch.tensor([_draw_weight(n, config) for n in self.nodules])
        self._half_height_mm = torch.tensor([_half_height_mm(n) for n in self.nodules])

    @property
    def steps(self) -> int:
        """Batches of an epoch; a rest smaller than a batch is left out."""
        return max(1, len(self.nodules) // self.config.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch; the generator, on the CPU, decides what they hold."""
        order = torch.randperm(len(self.nodules), generator=generator)
        for part in torch.split(order, self.config.batch_size)[: self.steps]:
            extra = round(len(part) * self.config.mask_share)
            yield self._batch(part, generator, extra)

    def mask_epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield as many batches that train the mask alone, in patches of mask_size_px."""
        patch = replace(self.config.patch, size_px=self.config.patch.mask_size_px)
        wide = self._with(replace(self.config, patch=patch))
        nothing = torch.zeros(0, dtype=torch.long)
        for _ in range(self.steps):
            masked = wide._batch(nothing, generator, self.config.batch_size, MASK_LEVELS)
            yield masked._replace(total=self.config.batch_size)

    def _with(self, config: TrainingConfig) -> TrainingSet:
        other = TrainingSet.__new__(TrainingSet)
        other.__dict__.update(self.__dict__, config=config)
        return other

    def plain(self) -> Iterator[Batch]:
        """Yield all nodules in order, without chance: what inference sees of them."""
        every = len(self.config.patch.offsets_mm)
        config = replace(self.config, augment=NO_AUGMENT, slices=every)
        plain = self._with(config)
        for part in torch.split(torch.arange(len(self.nodules)), self.config.batch_size):
            yield plain._batch(part, torch.Generator().manual_seed(0), 0)

    def _batch(
        self,
        part: Tensor,
        generator: torch.Generator,
        extra_count: int,
        extra_levels: tuple[float, ...] = EXTRA_LEVELS,
    ) -> Batch:
        config, augment = self.config, self.config.augment
        heights = self._heights(len(part), generator)
        motion = draw_motion(len(part), augment, generator, augment.shift_mm)
        border = self._border(len(part), generator) if self.negatives else None
        slices, masks = self._sample(part, heights, motion, generator, border)
        rows = self.rows.of(len(part))
        targets = {name: values[part][rows] for name, values in self.targets.items()}
        for task in SIZES:
            targets[task.name] = targets[task.name] + motion.log_scale[rows]
        wanted = round(len(part) * config.negative_share)
        for n, negatives in enumerate(self.negatives if len(part) else ()):
            share = Rows(n, len(self.negatives)).of(wanted)
            others = negatives._draw(share.stop - share.start, generator)
            slices, masks = torch.cat([slices, others[0]]), torch.cat([masks, others[1]])
            targets = {name: torch.cat([v, others[2][name]]) for name, v in targets.items()}
        masked = config.network.mask and bool(self._draw_weight.any())
        count = extra_count if masked else 0
        extra, middle = self._draw_extra(count, generator)
        motion = draw_motion(count, augment, generator, augment.mask_shift_mm)
        motion = motion._replace(shift_mm=motion.shift_mm * torch.tensor([1.0, 1.0, 0.0]))
        levels = middle[:, None] + torch.tensor(extra_levels)
        images, extra_masks = self._sample(extra, levels, motion, generator, fade=True)
        return Batch(
            slices,
            masks,
            {name: values.to(self.device) for name, values in targets.items()},
            images,
            extra_masks,
            len(part),
        )

    def _draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Draw input, mask and targets of some of these places, with repetition."""
        part = torch.randint(len(self.nodules), (count,), generator=generator)
        heights = self._heights(count, generator)
        motion = draw_motion(count, self.config.augment, generator, self.config.augment.shift_mm)
        slices, masks = self._sample(part, heights, motion, generator)
        rows = self.rows.of(count)
        return slices, masks, {name: values[part][rows] for name, values in self.targets.items()}

    def _border(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw where nodules' surroundings are mirrored, [count, 2, 2] pixels; see `mirrored`.

        Negatives lie beside the middle of their stacks, where the surroundings end sooner and are
        mirrored. Without the same at most nodules a mirrored rib would mean that there is none.
        """
        edge = self.block.voxels.shape[-1] / 2
        angle = torch.rand(count, generator=generator) * 2 * math.pi
        away = torch.rand(count, generator=generator) * (edge - NEAREST_BORDER_PX)
        off = torch.stack([angle.cos(), angle.sin()], 1) * away[:, None]
        off = off * (torch.rand(count, generator=generator) < MIRRORED_SHARE)[:, None]
        return torch.stack([edge + off, edge - off], 1)

    def _heights(self, count: int, generator: torch.Generator) -> Tensor:
        offsets = torch.tensor(self.config.patch.offsets_mm)
        fewer = self.config.slices
        if fewer >= len(offsets) or self.config.network.spatial_dims == 3:
            return offsets.expand(count, -1)
        first = torch.randint(len(offsets) - fewer + 1, (count, 1), generator=generator)
        return offsets[first + torch.arange(fewer)]

    def _draw_extra(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if not count:
            return torch.zeros(0, dtype=torch.long), torch.zeros(0)
        extra = torch.multinomial(self._draw_weight, count, True, generator=generator)
        reach = self._half_height_mm[extra] + BEYOND_ENDS_MM
        if inside_share := self.config.mask_inside_share:
            inside = torch.rand(count, generator=generator) < inside_share
            reach = torch.where(inside, self._half_height_mm[extra], reach)
        return extra, (torch.rand(count, generator=generator) * 2 - 1) * reach

    def _sample(
        self,
        part: Tensor,
        heights_mm: Tensor,
        motion: Motion,
        generator: torch.Generator,
        border: Tensor | None = None,
        *,
        fade: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draw for all rows, sample this process's: [b, L, P, P] input, [b, L - 2, P, P] mask.

        With `fade` some nodules become ground glass: only where nothing but the mask is trained.
        """
        augment, block, device = self.config.augment, self.block, self.device
        patch = self.config.patch
        batch, levels = heights_mm.shape
        variant = torch.randint(block.first.shape[1], (batch,), generator=generator)
        thickness = draw_thickness(batch, augment, generator)
        change = draw_intensity(batch, augment, generator).to(device)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        rows = self.rows.of(batch)
        local = torch.Generator(device).manual_seed(seed)
        noise = torch.randn(
            batch, levels, patch.size_px, patch.size_px, generator=local, device=device
        )[rows]
        nodule, variant = self.index[part][rows].to(device), variant[rows].to(device)
        motion = Motion(*(values[rows].to(device) for values in motion))
        centre, spacing = block.centre[nodule, variant], block.spacing_mm[nodule]
        points = axial_points(patch, motion.matrix, motion.shift_mm, spacing, centre)
        if border is not None:
            middle = centre[:, None, None, (2, 1)]
            points = middle + mirrored(points - middle, border[rows, None, None].to(device))
        height = heights_mm[rows].to(device) * motion.matrix[:, 2, 2:] + motion.shift_mm[:, 2:]
        first, slices_of = block.first[nodule, variant], block.height[nodule, variant]
        to_index = _Levels(first, slices_of, centre[:, 0], spacing[:, 0])
        taps = thickness[rows, None].to(device) * torch.tensor([-1 / 3, 0, 1 / 3], device=device)
        index, share = to_index(height[:, :, None] + taps[:, None], fade=False)
        images = sample_axial(block.voxels, index, share / 3, points)
        fade = fade and augment.faded_share > 0
        fading = draw_fading(batch, augment, generator)[rows] if fade else None
        seen = height if fading is not None else height[:, 1:-1]
        index, share = to_index(seen[:, :, None], fade=True)
        masks = sample_axial(block.masks, index, share / 255, points)
        if fading is not None:
            images, masks = fade_nodules(images, masks, fading.to(device)), masks[:, 1:-1]
        images = change_hu(images, type(change)(*(values[rows] for values in change)), noise)
        return normalise(images, patch), masks


def mirrored(offset_px: Tensor, border_px: Tensor) -> Tensor:
    """Mirror what lies beyond a border on either side.

    Args:
        offset_px: [..., 2] from the centre.
        border_px: [..., 2, 2] borders before and behind the centre, both as positive distances.

    >>> mirrored(torch.tensor([[-9.0, 5.0]]), torch.tensor([[[8.0, 8.0], [3.0, 4.0]]]))
    tensor([[-7.,  3.]])
    """
    before, behind = -border_px[..., 0, :], border_px[..., 1, :]
    offset_px = torch.minimum(offset_px, 2 * behind - offset_px)
    return torch.maximum(offset_px, 2 * before - offset_px)


class _Levels(NamedTuple):
    """Maps heights to the two slices around them."""

    first: Tensor
    slices: Tensor
    centre: Tensor
    spacing_mm: Tensor

    def __call__(self, height_mm: Tensor, *, fade: bool) -> tuple[Tensor, Tensor]:
        """Heights [B, L, K] above the centres -> slices and shares [B, L, 2K].

        With fade what lies beyond the first and last slice has no share, as masks need it;
        else those slices are continued, as HU are.
        """
        first, slices, centre, spacing = (values[:, None, None] for values in self)
        k = height_mm / spacing + centre
        low = k.floor()
        both = torch.stack([low, low + 1], -1)
        share = torch.stack([1 - (k - low), k - low], -1)
        if fade:
            share = share * ((both >= 0) & (both < slices[..., None]))
        last = (slices - 1)[..., None].to(both.dtype)
        index = first[..., None] + both.clamp(min=0).minimum(last).long()
        return index.flatten(2), share.flatten(2)


def _half_height_mm(nodule: Nodule) -> float:
    if nodule.context == "none":
        return nodule.shape_kji[0] * nodule.spacing_kji_mm[0] / 2
    return nodule.equivalent_diameter_mm / 2


def _draw_weight(nodule: Nodule, config: TrainingConfig) -> float:
    if nodule.mask_readers == 0:
        return 0.0
    texture = [rating for rating in nodule.ratings.get("texture", ()) if rating > 0]
    subsolid = bool(texture) and float(np.mean(texture)) < SUBSOLID_BELOW
    large = nodule.equivalent_diameter_mm > LARGE_MM
    return (config.subsolid_factor if subsolid else 1.0) * (config.large_factor if large else 1.0)


NO_AUGMENT = AugmentConfig(
    scale=0,
    shift_mm=0,
    mask_shift_mm=0,
    gain=0,
    offset_hu=0,
    noise_hu=0,
    kernel_share=0,
    thickness_share=0,
    flip_and_rotate=False,
)
"""A training batch without chance: what inference sees of the same nodule."""
