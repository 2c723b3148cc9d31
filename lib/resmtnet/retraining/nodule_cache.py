"""A cache of a site's nodules: each is looked at once, and its crop is kept.

    <folder>/observations/<key>.safetensors   outputs and measured masks of a nodule
    <folder>/crops/<key>.npz                  voxels around it, for trainings on images

The key is a hash of image and centre, for observations also of the feature extractor (trunk): new
output layers reuse what is there, a new feature extractor looks again. A file that is missing or
broken is made again.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.volume import CTVolume
from resmtnet.data import archive
from resmtnet.data.archive import Archive, Crop
from resmtnet.data.nodule import Nodule
from resmtnet.data.upright import upright_crop
from resmtnet.errors import InputError
from resmtnet.evaluation.records import Case
from resmtnet.files import atomic_file
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.inference.model_folder import Model
from resmtnet.inference.point import predict_points
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.samples import Consensus, Sample, sample_of
from resmtnet.training.cached_nodule import CachedNodule, MeasuredMask
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.types import Point

CROP_MM = 72.0
"""Edge of a kept crop: the patch of the mask, turned and shifted."""
OBSERVATIONS, CROPS = "observations", "crops"
BROKEN = (
    *(InputError, OSError, EOFError, ValueError, LookupError, TypeError),
    *(BadZipFile, zlib.error, NotImplementedError),
)
"""What reading a damaged file may raise."""


@dataclass(frozen=True)
class Collected:
    """A site's samples."""

    samples: tuple[Sample, ...]
    skipped: tuple[str, ...] = ()
    """Nodules that could not be looked at, each with the reason."""


class NoduleCache:
    """Looks at a site's nodules, each once; several processes may use it at once."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        open_ct: Callable[[str], CTVolume],
        *,
        device: str = "cpu",
        keep_crops: bool = True,
    ) -> None:
        """See the attributes.

        Args:
            folder: of the cache; beside the readings database.
            model: that looks.
            open_ct: gives the CT of an image id; may raise a ResMTNetError or OSError.
            device: of the networks.
            keep_crops: also keep the voxels around each nodule.
        """
        self.folder, self.model, self.open_ct = folder, model, open_ct
        self.keep_crops = keep_crops
        self.heads = LinearHeads.of(model.networks)
        self._device = device
        self._inference: Ensemble | None = None
        self._opened: tuple[str, CTVolume] | None = None

    def samples(
        self,
        consensus: Sequence[Consensus],
        tell: Callable[[int, int], None] = lambda done, of: None,
    ) -> Collected:
        """Return what the site's readers say, with what the model sees there.

        Args:
            consensus: of samples.gather.
            tell: called with nodules done and nodules in all.
        """
        found: list[Sample] = []
        skipped: list[str] = []
        for done, one in enumerate(consensus, start=1):
            try:
                found.append(self.sample(one))
            except (InputError, OSError) as error:
                skipped.append(f"{one.id}: {error}")
            tell(done, len(consensus))
        return Collected(tuple(found), tuple(skipped))

    def sample(self, consensus: Consensus) -> Sample:
        """Return one sample, with the outputs of this model.

        Raises:
            InputError: its image cannot be read, or the point lies outside it.
        """
        path = self._path(OBSERVATIONS, consensus, ".safetensors", self.heads.trunk)
        held = _read_observation(path)
        if held is None:
            held = look(self._looking(), self._ct(consensus.image), consensus.centre_lps_mm)
            with atomic_file(path, durable=False) as draft:
                save_cached(draft, [held])
        crop = self._path(CROPS, consensus, ".npz")
        if self.keep_crops and not crop.is_file():
            self._keep_crop(crop, consensus)
        return sample_of(consensus, self.heads.answer(held))

    def archive(self, samples: Sequence[Sample], path: Path) -> Archive:
        """Write the kept crops of samples as an archive; masks are empty and do not train.

        Args:
            samples: of this site; the archive has its nodules in their order.
            path: folder to make.

        Raises:
            InputError: a crop is not kept and its image cannot be read.
        """
        provenance = {"data": "readings of a site", "mask": "none"}
        archive.write(path, (self._crop(sample) for sample in samples), provenance)
        return Archive.open(path)

    def _crop(self, sample: Sample) -> Crop:
        path = self._path(CROPS, sample.consensus, ".npz")
        found = _read_crop(path, sample.consensus.record)
        if found is None:
            self._keep_crop(path, sample.consensus)
            found = _read_crop(path, sample.consensus.record)
        if found is None:
            raise InputError(f"{path} was just written but cannot be read: check the disk")
        return found

    def _keep_crop(self, path: Path, consensus: Consensus) -> None:
        crop = upright_crop(self._ct(consensus.image), consensus.centre_lps_mm, CROP_MM)
        with atomic_file(path, durable=False) as draft, draft.open("wb") as file:
            np.savez_compressed(
                file, hu=crop.hu, spacing_kji_mm=crop.spacing_kji_mm, centre_kji=crop.centre_kji
            )

    def _path(self, kind: str, consensus: Consensus, suffix: str, trunk: str = "") -> Path:
        x, y, z = (round(mm, 2) for mm in consensus.centre_lps_mm)
        key = hashlib.sha256(f"{consensus.image}\n{x} {y} {z}\n{trunk}".encode()).hexdigest()
        return self.folder / kind / f"{key[:32]}{suffix}"

    def _looking(self) -> Ensemble:
        if self._inference is None:
            networks = list(self.model.networks)
            self._inference = Ensemble(
                networks, self.model.config.patch, self._device, self.model.config.head_views
            )
        return self._inference

    def _ct(self, image: str) -> CTVolume:
        if self._opened is None or self._opened[0] != image:
            self._opened = (image, self.open_ct(image))
        return self._opened[1]


def look(inference: Ensemble, ct: CTVolume, centre_lps_mm: Point) -> CachedNodule:
    """Return what is seen at a point of a CT, as a nodule without readings."""
    predicted = predict_points(inference, ct, [centre_lps_mm])[0]
    masks = {level: predicted.mask(level) for level in LEVELS if inference.draws_masks}
    return CachedNodule(
        Case("", "", (), math.nan, math.nan, None, math.nan),
        {},
        predicted.observation,
        predicted.mask_mean(),
        predicted.why_no_nodule(),
        predicted.notes(),
        {level: MeasuredMask(m.measured, m.cut, None) for level, m in masks.items()},
    )


def _read_observation(path: Path) -> CachedNodule | None:
    if not path.is_file():
        return None
    try:
        return load_cached(path)[0]
    except BROKEN:
        return None


def _read_crop(path: Path, nodule: Nodule) -> Crop | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as stored:
            hu, spacing, centre = (stored[n] for n in ("hu", "spacing_kji_mm", "centre_kji"))
    except BROKEN:
        return None
    placed = replace(
        nodule,
        shape_kji=hu.shape,
        spacing_kji_mm=_triple(spacing),
        centre_kji=_triple(centre),
        slice_thickness_mm=float(spacing[0]),
    )
    return placed, hu, np.zeros(hu.shape, np.uint8)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c
