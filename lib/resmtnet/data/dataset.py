"""From an archive to batches: crops in memory, targets, random patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.characteristics import CLASS, LIDC_RATINGS, SIZES, TEXTURE_CLASS, texture_class_of
from resmtnet.config import AugmentConfig, TrainingConfig
from resmtnet.ct.augment import Motion, change_hu, draw_motion
from resmtnet.ct.patch import axial_affine, normalise, patch_points, sample
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.consensus import class_weight, distribution, malignant_share
from resmtnet.data.continuation import continue_ends

BEYOND_MM = 14.0
"""Height synthesised beyond the ends of a stack without context: what the sampling can reach."""
FULL_WEIGHT_READERS = 4
LARGE_MM = 15.0
SUBSOLID_BELOW = 3.5
EXTRA_LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)
"""Heights of a run of mask levels around a random one, mm; the outer two are neighbours only."""


@dataclass(frozen=True, eq=False)
class Crop:
    """Voxels of a nodule ready for sampling."""

    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    affine: Tensor
    """[3, 4], LPS offsets from the centre to voxels; see ct.patch."""


class Batch(NamedTuple):
    """One step of training."""

    slices: Tensor
    """[B, S, P, P] normalised input of the heads."""
    targets: dict[str, Tensor]
    extra: Tensor
    """[M, 5, P, P] normalised input of the mask at random heights."""
    extra_mask: Tensor
    """[M, 3, P, P] share of readers, of the three inner levels."""


def load_crops(
    archive: Archive, index: Sequence[int], variants: int, seed: int
) -> list[list[Crop]]:
    """Load crops into memory, continuing those without context.

    Args:
        archive: where they are.
        index: which nodules.
        variants: continuations to make of each nodule that needs one.
        seed: of the continuations.

    Returns:
        Per nodule of `index`, its variants.
    """
    return [
        [
            load_crop(
                archive, archive.nodules[n], torch.Generator().manual_seed(seed + 7919 * n + v)
            )
            for v in range(variants if archive.nodules[n].context == "none" else 1)
        ]
        for n in index
    ]


def load_crop(archive: Archive, nodule: Nodule, generator: torch.Generator) -> Crop:
    """Load one crop; see load_crops."""
    hu, mask = archive.voxels_hu(nodule), archive.mask(nodule)
    centre = list(nodule.centre_kji)
    if nodule.context == "none":
        hu, mask, below = continue_ends(hu, mask, nodule.spacing_kji_mm, BEYOND_MM, generator)
        centre[0] += below
    return Crop(np.ascontiguousarray(hu), mask, axial_affine(nodule.spacing_kji_mm, centre))


def targets_of(nodules: Sequence[Nodule]) -> dict[str, Tensor]:
    """Return targets and weights of nodules by task, as network.losses takes them.

    Ratings become the readers' distribution and weigh by the number of readers; what a nodule
    lacks has weight 0.
    """
    columns: dict[str, list[NDArray[np.float32] | float]] = {}

    def add(name: str, target: NDArray[np.float32] | float, weight: float) -> None:
        columns.setdefault(name, []).append(target)
        columns.setdefault(f"{name}_weight", []).append(weight)

    for nodule in nodules:
        readers = nodule.malignancy
        share = malignant_share(readers) if readers else 0.5
        pair = np.array([1 - share, share], np.float32)
        add(CLASS.name, pair, class_weight(readers) if readers else 0.0)
        texture = nodule.ratings.get("texture", ())
        levels = TEXTURE_CLASS.levels
        name = texture_class_of(float(np.mean(texture))) if texture else levels[0]
        add(
            TEXTURE_CLASS.name,
            np.eye(3, dtype=np.float32)[levels.index(name)],
            float(bool(texture)),
        )
        for task in LIDC_RATINGS:
            count = len(task.levels)
            # the LIDC annotations hold a few values outside their own scale
            given = [r for r in nodule.ratings.get(task.name, ()) if 1 <= r <= count]
            weight = min(len(given), FULL_WEIGHT_READERS) / FULL_WEIGHT_READERS
            add(task.name, distribution(given or [1], count), weight)
        for task in SIZES:
            add(task.name, float(np.log(getattr(nodule, task.name))), 1.0)
    return {name: torch.tensor(np.array(values, np.float32)) for name, values in columns.items()}


class TrainingSet:
    """Random batches of an archive's nodules."""

    def __init__(self, archive: Archive, index: Sequence[int], config: TrainingConfig) -> None:
        self.config = config
        self.nodules = [archive.nodules[n] for n in index]
        self.crops = load_crops(archive, index, config.context_variants, config.seed)
        self.targets = targets_of(self.nodules)
        self._draw_weight = torch.tensor([_draw_weight(n, config) for n in self.nodules])
        self._half_height_mm = torch.tensor(
            [
                n.shape_kji[0] * n.spacing_kji_mm[0] / 2
                if n.context == "none"
                else n.equivalent_diameter_mm / 2
                for n in self.nodules
            ]
        )

    @property
    def steps(self) -> int:
        """Batches of an epoch; a rest smaller than a batch is left out."""
        return max(1, len(self.nodules) // self.config.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch; the generator alone decides what they hold."""
        order = torch.randperm(len(self.nodules), generator=generator)
        for part in torch.split(order, self.config.batch_size)[: self.steps]:
            yield self._batch(part, generator)

    def _batch(self, part: Tensor, generator: torch.Generator) -> Batch:
        config, augment = self.config, self.config.augment
        heights = torch.tensor(config.patch.offsets_mm).expand(len(part), -1)
        motion = draw_motion(len(part), augment, generator, augment.shift_mm)
        slices, _ = self._sample(part, heights, motion, generator, with_mask=False)
        targets = {name: values[part] for name, values in self.targets.items()}
        for task in SIZES:
            targets[task.name] = targets[task.name] + motion.log_scale
        count = round(len(part) * config.mask_share) if config.network.mask else 0
        extra = (
            torch.multinomial(self._draw_weight, count, True, generator=generator)
            if count
            else part[:0]
        )
        reach = self._half_height_mm[extra] + 7
        middle = (torch.rand(len(extra), generator=generator) * 2 - 1) * reach
        heights = middle[:, None] + torch.tensor(EXTRA_LEVELS)
        motion = draw_motion(len(extra), augment, generator, augment.mask_shift_mm)
        motion = motion._replace(shift_mm=motion.shift_mm * torch.tensor([1.0, 1.0, 0.0]))
        images, masks = self._sample(extra, heights, motion, generator, with_mask=True)
        return Batch(slices, targets, images, masks[:, 1:-1])

    def _sample(
        self,
        part: Tensor,
        heights_mm: Tensor,
        motion: Motion,
        generator: torch.Generator,
        *,
        with_mask: bool,
    ) -> tuple[Tensor, Tensor]:
        patch, augment = self.config.patch, self.config.augment
        points = patch_points(heights_mm, patch, motion.matrix, motion.shift_mm)
        images, masks = torch.empty(points.shape[:-1]), torch.empty(points.shape[:-1])
        for row, n in enumerate(part.tolist()):
            variants = self.crops[n]
            crop = variants[int(torch.randint(len(variants), (1,), generator=generator))]
            images[row] = sample(torch.from_numpy(crop.hu), crop.affine, points[row])
            if with_mask:
                mask = torch.from_numpy(crop.mask)
                masks[row] = sample(mask, crop.affine, points[row], outside="zeros") / 255
        return normalise(change_hu(images, augment, generator), patch), masks


def _draw_weight(nodule: Nodule, config: TrainingConfig) -> float:
    texture = nodule.ratings.get("texture", ())
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
    blur=0,
    flip_and_rotate=False,
)
"""A training batch without chance: what inference sees of the same nodule."""
