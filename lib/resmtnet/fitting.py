"""Fits a model's calibration on patients kept out of training: thresholds, intervals, spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet import interpret
from resmtnet.calibration import (
    OOD_QUANTILE,
    Calibration,
    fit_decision_threshold,
    fit_embedding_spread,
    fit_platt,
    fit_size_quantile,
)
from resmtnet.characteristics import SIZES
from resmtnet.config import PatchConfig, TrainingConfig
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.measure import Measurement, measure
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.consensus import malignant_share
from resmtnet.data.splits import Split
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import ModelError
from resmtnet.inference import Inference, Observation, Sampler
from resmtnet.masking import grow, to_voxels
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.network.uncertainty import conformal_quantile, mahalanobis, softmax

Array = NDArray[np.float64]
Tell = Callable[[int, int], None]

MASK_THRESHOLDS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
FEWEST_MASKS = 10
"""Nodules with (or without) a mask from which constants can be fitted."""
MEASURED = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
)


@dataclass(frozen=True, eq=False)
class _Held:
    """One calibration nodule: what was said, what is true."""

    observation: Observation
    measured: dict[float, Measurement | None]
    """By mask threshold."""
    truth: dict[str, float]
    malignancy: tuple[int, ...]


def fit_calibration(
    network: ResMTNet,
    config: TrainingConfig,
    archive: Archive,
    split: Split,
    baselines: dict[str, Any],
    device: str = "cpu",
    tell: Tell = lambda done, of: None,
) -> Calibration:
    """Fit every constant of a model's calibration.

    Args:
        network: trained, in evaluation mode.
        config: it was trained with.
        archive: the training archive.
        split: its training part gives the spread of embeddings, its calibration part the rest.
        baselines: predictors to be kept with the model, for evaluation.
        device: of the network.
        tell: called with nodules done and nodules in all.
    """
    inference = Inference(network, config.patch, device)
    total = len(split.train) + len(split.calibration)
    held = []
    for done, n in enumerate(split.calibration):
        held.append(_observe(inference, archive, archive.nodules[n]))
        tell(done + 1, total)
    embeddings = []
    for done, n in enumerate(split.train, start=len(held)):
        ct, centre = nodule_ct(archive, archive.nodules[n])
        embeddings.append(inference.heads([inference.sampler(ct, centre)])[0].embedding)
        tell(done + 1, total)
    return _fit(held, np.array(embeddings, float), baselines)


def _observe(inference: Inference, archive: Archive, nodule: Nodule) -> _Held:
    ct, centre = nodule_ct(archive, nodule)
    sampler = inference.sampler(ct, centre)
    observation = inference.heads([sampler])[0]
    measured = _measure_at(inference, sampler)
    return _Held(observation, measured, _truth(archive, nodule), nodule.malignancy)


def _measure_at(inference: Inference, sampler: Sampler) -> dict[float, Measurement | None]:
    """Measure the mask at every threshold, decoding each run of levels once."""
    known: dict[tuple[int, int], NDArray[np.float32]] = {}
    config: PatchConfig = inference.config

    def levels(low: int, high: int) -> NDArray[np.float32]:
        if (low, high) not in known:
            known[low, high] = inference.mask_probability(sampler, low, high)
        return known[low, high]

    found: dict[float, Measurement | None] = {}
    for threshold in MASK_THRESHOLDS:
        patch = grow(levels, threshold, config)
        grid, centre = sampler.ct.geometry, sampler.centre_lps_mm
        mask = patch and to_voxels(patch, threshold, config, grid, centre)
        found[threshold] = measure(mask.mask, mask.geometry) if mask else None
    return found


def _truth(archive: Archive, nodule: Nodule) -> dict[str, float]:
    """Return a nodule's sizes; the short axis is that of what half of the readers marked."""
    share = archive.mask(nodule)
    marked = share >= 128 if (share >= 128).any() else share > 0
    i_mm_first = nodule.spacing_kji_mm[::-1]
    geometry = Geometry(nodule.shape_kji[::-1], i_mm_first, (0, 0, 0), np.eye(3))
    consensus = measure(marked, geometry)
    truth = {
        "volume_mm3": nodule.volume_mm3,
        "equivalent_diameter_mm": nodule.equivalent_diameter_mm,
        "long_axis_mm": nodule.long_axis_mm,
    }
    if consensus is not None:
        truth["short_axis_mm"] = consensus.short_axis_mm
        truth["mean_diameter_mm"] = (nodule.long_axis_mm + consensus.short_axis_mm) / 2
    return truth


def _fit(held: Sequence[_Held], embeddings: Array, baselines: dict[str, Any]) -> Calibration:
    logits = np.array([h.observation.outputs["class"] for h in held])
    share = np.array([malignant_share(h.malignancy) for h in held])
    clear = share != 0.5
    slope, intercept = fit_platt((logits[:, 1] - logits[:, 0])[clear], share[clear])
    threshold = _fit_mask_threshold(held)
    mean, precision = fit_embedding_spread(embeddings)
    distances = mahalanobis(
        np.array([h.observation.embedding for h in held], float), mean, precision
    )
    sigma = np.array([interpret.sigma_of(h.observation) for h in held])
    draft = Calibration(
        class_slope=slope,
        class_intercept=intercept,
        decision_threshold=0.5,
        mask_threshold=threshold,
        score_quantile=_fit_score(held),
        size_quantiles={n: _fit_size(held, n, threshold, sigma) for n in MEASURED},
        regressed_quantiles={t.name: _fit_regressed(held, t.name, threshold, sigma) for t in SIZES},
        ood_limit=float(np.quantile(distances, OOD_QUANTILE)),
        baselines=baselines,
        embedding_mean=mean,
        embedding_precision=precision,
    )
    probability = draft.probability_malignant(logits[clear])
    return replace(draft, decision_threshold=fit_decision_threshold(probability, share[clear]))


def _fit_mask_threshold(held: Sequence[_Held]) -> float:
    def median_bias(threshold: float) -> float:
        ratios = [
            found.equivalent_diameter_mm / h.truth["equivalent_diameter_mm"]
            for h in held
            if (found := h.measured[threshold]) is not None
        ]
        if len(ratios) < FEWEST_MASKS:
            raise ModelError(
                f"{len(ratios)} of {len(held)} calibration nodules got a mask, at least "
                f"{FEWEST_MASKS} are needed: train for more epochs"
            )
        return float(abs(np.median(np.log(ratios))))

    return min(MASK_THRESHOLDS, key=median_bias)


def _fit_score(held: Sequence[_Held]) -> float:
    errors = []
    for h in held:
        shares = softmax(h.observation.outputs["malignancy"])
        score, deviation = interpret.score_and_deviation(shares)
        errors.append(abs(score - float(np.mean(h.malignancy))) / max(deviation, 1e-3))
    return conformal_quantile(np.array(errors))


def _fit_size(held: Sequence[_Held], name: str, threshold: float, sigma: Array) -> float:
    rows = [
        (float(getattr(found, name)), h.truth[name], s)
        for h, s in zip(held, sigma, strict=True)
        if (found := h.measured[threshold]) is not None and name in h.truth
    ]
    measured, truth, spread = np.array(rows).T
    exponent = interpret.VOLUME_EXPONENT if name == "volume_mm3" else 1.0
    return fit_size_quantile(measured, truth, spread * exponent)


def _fit_regressed(held: Sequence[_Held], name: str, threshold: float, sigma: Array) -> float:
    """Fit on the nodules without a mask, for which alone the regression is shown."""
    without = [n for n, h in enumerate(held) if h.measured[threshold] is None]
    rows = without if len(without) >= FEWEST_MASKS else list(range(len(held)))
    measured = np.exp([held[n].observation.outputs[name][0] for n in rows])
    truth = np.array([held[n].truth[name] for n in rows])
    return fit_size_quantile(measured, truth, sigma[rows])
