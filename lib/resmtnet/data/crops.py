"""Resamples all crops of an archive into one array of slices, from which batches are drawn.

Crops that end where the nodule ends are continued first (continuation.py), in several variants.
That takes minutes, so the block is kept beside the archive and memory-mapped from then on.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.ct.patch import axial_affine
from resmtnet.data.archive import HEAD, Archive, Nodule
from resmtnet.data.continuation import continue_ends
from resmtnet.files import atomic_folder
from resmtnet.types import Progress

BEYOND_MM = 14.0
"""Height synthesised beyond the ends of a stack without context: what the sampling can reach."""
KEPT = "crops.json"
FORM = 1
"""Counts up when a block that an earlier version kept must be made again."""
CHUNK = 64
"""Nodules that are continued before the progress is told."""


@dataclass(frozen=True, eq=False)
class SampledCrop:
    """Voxels of one nodule ready for sampling."""

    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    affine: Tensor
    """[3, 4], LPS offsets from the centre to voxels; see ct.patch."""
    below: int
    """Slices that were synthesised below the stored ones."""


def load_crop(archive: Archive, nodule: Nodule, generator: torch.Generator) -> SampledCrop:
    """Load one crop, continued where it has no context.

    Args:
        archive: where it is.
        nodule: of the archive.
        generator: of the continuation.
    """
    hu, mask = archive.voxels_hu(nodule), archive.mask(nodule)
    centre, below = list(nodule.centre_kji), 0
    if nodule.context == "none":
        hu, mask, below = continue_ends(hu, mask, nodule.spacing_kji_mm, BEYOND_MM, generator)
        centre[0] += below
    affine = axial_affine(nodule.spacing_kji_mm, centre)
    return SampledCrop(np.ascontiguousarray(hu), np.ascontiguousarray(mask), affine, below)


class CropBlock(NamedTuple):
    """Slices of all crops, one after the other; T slices, N nodules, V variants, E edge."""

    voxels: Tensor
    """[T, E, E] int16 HU; crops narrower than E are continued by their last voxels."""
    masks: Tensor
    """[T, E, E] uint8 share of readers, 255 = all."""
    first: Tensor
    """[N, V] first slice."""
    height: Tensor
    """[N, V] slices of each crop."""
    centre: Tensor
    """[N, V, 3] voxel index (k, j, i) of the nodule's centre in its crop."""
    spacing_mm: Tensor
    """[N, 3] k, j, i."""

    def to(self, device: str) -> CropBlock:
        """Return the block on a device."""
        return CropBlock(*(part.to(device) for part in self))


def load_block(
    archive: Archive, variants: int, seed: int, tell: Progress = lambda done, of: None
) -> CropBlock:
    """Return the block of a whole archive, made once and then kept beside it.

    Args:
        archive: the training archive.
        variants: continuations of each nodule that needs one.
        seed: of the continuations.
        tell: called with nodules done and nodules in all while the block is made.
    """
    folder = archive.path / f"crops-{variants}-{seed}"
    head = _head(archive, variants, seed)
    if not _is_kept(folder, head):
        if not os.access(archive.path, os.W_OK):
            return _made(archive, variants, seed, tell, None)
        with atomic_folder(folder, KEPT, durable=False) as draft:
            block = _made(archive, variants, seed, tell, draft)
            torch.save(dict(zip(block._fields[2:], block[2:], strict=True)), draft / "index.pt")
            (draft / KEPT).write_text(json.dumps(head))
    voxels, masks = (
        torch.from_numpy(np.load(folder / name, mmap_mode="c"))
        for name in ("voxels.npy", "masks.npy")
    )
    index = torch.load(folder / "index.pt", weights_only=True)
    return CropBlock(voxels, masks, **index)


def _head(archive: Archive, variants: int, seed: int) -> dict[str, Any]:
    kept = json.loads((archive.path / HEAD).read_text())
    return {
        "form": FORM,
        "archive": kept["sha256"],
        "variants": variants,
        "seed": seed,
        "beyond_mm": BEYOND_MM,
    }


def _is_kept(folder: Path, head: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / KEPT).read_text()) == head)
    except (OSError, ValueError):
        return False


def _made(
    archive: Archive, variants: int, seed: int, tell: Progress, folder: Path | None
) -> CropBlock:
    nodules = archive.nodules
    height = [_height(nodule) for nodule in nodules for _ in range(variants)]
    edge = max(max(nodule.shape_kji[1:]) for nodule in nodules)
    shape = (sum(height), edge, edge)
    voxels, masks = (
        _empty(shape, folder, "voxels.npy", "<i2"),
        _empty(shape, folder, "masks.npy", "|u1"),
    )
    first = np.concatenate([[0], np.cumsum(height)[:-1]]).reshape(-1, variants)
    centre = np.empty((len(nodules), variants, 3), np.float32)
    for start in range(0, len(nodules), CHUNK):
        part = range(start, min(start + CHUNK, len(nodules)))
        for (n, v), crop in zip(
            ((n, v) for n in part for v in range(variants)),
            _continued(archive, part, variants, seed),
            strict=True,
        ):
            place = slice(first[n, v], first[n, v] + len(crop.hu))
            wide = [(0, 0), *((0, edge - size) for size in crop.hu.shape[1:])]
            voxels[place] = np.pad(crop.hu, wide, mode="edge")
            masks[place] = np.pad(crop.mask, wide)
            k, j, i = nodules[n].centre_kji
            centre[n, v] = k + crop.below, j, i
        tell(part.stop, len(nodules))
    return CropBlock(
        torch.from_numpy(voxels),
        torch.from_numpy(masks),
        torch.from_numpy(first),
        torch.tensor(height).view(-1, variants),
        torch.from_numpy(centre),
        torch.tensor([nodule.spacing_kji_mm for nodule in nodules]),
    )


def _empty(shape: tuple[int, ...], folder: Path | None, name: str, kind: str) -> NDArray[Any]:
    if folder is None:
        return np.empty(shape, kind)
    opened: NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        folder / name, mode="w+", dtype=kind, shape=shape
    )
    return opened


def _height(nodule: Nodule) -> int:
    added = 2 * math.ceil(BEYOND_MM / nodule.spacing_kji_mm[0]) if nodule.context == "none" else 0
    return nodule.shape_kji[0] + added


def _continued(archive: Archive, part: range, variants: int, seed: int) -> list[SampledCrop]:
    """Continue crops on all cores; the seed of each depends on its place alone.

    Threads, because processes are sent the archive anew for every chunk, which took ten times as
    long as the work itself.
    """
    from joblib import Parallel, delayed

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        crops: list[SampledCrop] = Parallel(
            n_jobs=-1 if len(part) >= CHUNK else 1, prefer="threads"
        )(delayed(_one)(archive, n, seed + 7919 * n + v) for n in part for v in range(variants))
    finally:
        torch.set_num_threads(threads)
    return crops


def _one(archive: Archive, n: int, seed: int) -> SampledCrop:
    return load_crop(archive, archive.nodules[n], torch.Generator().manual_seed(seed))
