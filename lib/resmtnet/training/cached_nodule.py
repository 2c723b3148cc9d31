"""What a network says of one nodule, kept: calibration and evaluation need no second pass.

A pass of the network is expensive and its outputs are small. Calibrations are fitted to the cached
nodules of some patients, and findings for the other patients are made from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import MEASURED, Measurement, measure
from resmtnet.data.archive import Archive
from resmtnet.data.nodule import Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError
from resmtnet.evaluation.records import Case, Prediction
from resmtnet.findings import Finding
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import Ensemble, RawOutputs
from resmtnet.inference.mask_growth import VoxelMask
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.inference.point import RawPrediction, predict_points
from resmtnet.inference.postprocessing import to_finding
from resmtnet.inference.sizes import mask_level
from resmtnet.training.cases import case_of, prediction_of
from resmtnet.training.report_pictures import consensus

CONSENSUS = 128
"""Share of readers, of 255, from which a voxel belongs to their consensus."""


@dataclass(frozen=True)
class MeasuredMask:
    """The mask of a cached nodule at one threshold, without its voxels."""

    measured: Measurement | None
    cut: bool
    dice: float | None
    """Overlap with what at least half of the readers marked, 0..1; None where nothing is."""


@dataclass(frozen=True, eq=False)
class CachedNodule:
    """One nodule: what its readers say, and what was seen of it at every mask threshold."""

    case: Case
    truth: Mapping[str, float]
    """Sizes by name, where they are known; the short axis is the readers', else that of what half
    of them marked."""
    observation: RawOutputs
    mask_mean: float
    """See PointPrediction.mask_mean."""
    no_nodule: str | None
    notes: tuple[str, ...]
    masks: Mapping[float, MeasuredMask]
    """By threshold; empty where the network has no mask decoder."""

    def seen(self, mask_threshold: float) -> RawPrediction:
        """Return what the Characterizer would see with a mask threshold.

        Raises:
            InputError: the masks were not measured at this threshold.
        """
        if self.masks and mask_threshold not in self.masks:
            raise InputError(
                f"{self.case.id}: no mask was measured at {mask_threshold}; known are "
                f"{', '.join(str(t) for t in self.masks)}"
            )
        drawn = self.masks.get(mask_threshold, MeasuredMask(None, cut=False, dice=None))
        return RawPrediction(
            self.observation,
            self.mask_mean,
            drawn.measured,
            drawn.cut,
            None if drawn.measured else self.no_nodule,
            self.notes,
        )


def observe(inference: Ensemble, archive: Archive, nodule: Nodule) -> CachedNodule:
    """Look at one nodule of an archive, as a click at its centre does.

    Args:
        inference: members that never trained on this patient.
        archive: holds the voxels; a crop without context is continued.
        nodule: of the archive.
    """
    ct, centre_lps_mm = nodule_ct(archive, nodule)
    predicted = predict_points(inference, ct, [centre_lps_mm])[0]
    marked = consensus(archive, nodule, ct, centre_lps_mm) >= CONSENSUS / 255
    several = nodule.mask_readers not in (0, 1)  # one reader's mask is no consensus
    masks = {t: predicted.mask(t) for t in LEVELS if inference.draws_masks}
    return CachedNodule(
        case_of(nodule),
        _truth(archive, nodule),
        predicted.observation,
        predicted.mask_mean(),
        predicted.why_no_nodule(),
        predicted.notes(),
        {
            t: MeasuredMask(m.measured, m.cut, _dice(m.voxels, marked) if several else None)
            for t, m in masks.items()
        },
    )


def mask_threshold(held: CachedNodule, calibration: Calibration) -> float:
    """Return the mask threshold that a calibration has for a nodule."""

    def diameter_mm(level: float) -> float | None:
        drawn = held.masks.get(level)
        return drawn.measured.equivalent_diameter_mm if drawn and drawn.measured else None

    return mask_level(held.observation, diameter_mm, calibration)


def raw_prediction(held: CachedNodule, calibration: Calibration) -> RawPrediction:
    """Return what the Characterizer would see of a cached nodule with this calibration."""
    return held.seen(mask_threshold(held, calibration))


def finding_of(held: CachedNodule, calibration: Calibration) -> Finding:
    """Return what the Characterizer would answer for a cached nodule, without mask and category."""
    return to_finding(raw_prediction(held, calibration), calibration, held.case.id)


def predict(held: CachedNodule, calibration: Calibration) -> Prediction:
    """Return what the evaluation needs of the answer for a cached nodule."""
    drawn = held.masks.get(mask_threshold(held, calibration))
    return prediction_of(finding_of(held, calibration), drawn.dice if drawn else None)


def _truth(archive: Archive, nodule: Nodule) -> dict[str, float]:
    """Return the sizes that are known; where no reader's short axis is, that of their consensus."""
    truth = {name: float(getattr(nodule, name)) for name in MEASURED}
    if math.isnan(truth["short_axis_mm"]):
        share = archive.mask(nodule)
        marked = share >= CONSENSUS if (share >= CONSENSUS).any() else share > 0
        i_mm_first = nodule.spacing_kji_mm[::-1]
        geometry = Geometry(nodule.shape_kji[::-1], i_mm_first, (0, 0, 0), np.eye(3))
        measured = measure(marked, geometry)
        truth["short_axis_mm"] = measured.short_axis_mm if measured else math.nan
        truth["mean_diameter_mm"] = (truth["long_axis_mm"] + truth["short_axis_mm"]) / 2
    return {name: mm for name, mm in truth.items() if not math.isnan(mm)}


def _dice(mask: VoxelMask | None, marked: NDArray[np.bool_]) -> float | None:
    """Return the Dice of a mask and what half of the readers marked, [k, j, i] of the whole CT."""
    if not marked.any():
        return None
    if mask is None:
        return 0.0
    there = tuple(
        slice(start, start + count)
        for start, count in zip(mask.start_ijk[::-1], mask.mask.shape, strict=True)
    )
    both = (marked[there] & (mask.mask > 0)).sum()
    return float(2 * both / (marked.sum() + mask.mask.sum()))
