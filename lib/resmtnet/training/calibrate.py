"""Fits every constant of a model's calibration to cached nodules that it never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import SIZES, TEXTURE_CLASS
from resmtnet.ct.measure import MEASURED
from resmtnet.data.consensus import class_weight, malignant_share
from resmtnet.errors import ModelError
from resmtnet.evaluation.records import MINIMUM_READERS
from resmtnet.findings import Size
from resmtnet.inference import postprocessing, sizes
from resmtnet.inference.calibration import Calibration, TextureCalibration, class_features
from resmtnet.inference.conformal import Bands, LogInterval, fit_bands, fit_log_interval, fit_widths
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.mask_threshold import LEVELS, settle, usual_level
from resmtnet.inference.out_of_distribution import fit_out_of_distribution
from resmtnet.inference.presence import NodulePresence, nodule_logit
from resmtnet.network.uncertainty import logit
from resmtnet.training.cached_nodule import CachedNodule, raw_prediction
from resmtnet.training.estimators import (
    fit_decision_threshold,
    fit_platt,
    fit_temperature,
    fit_vector_scaling,
)
from resmtnet.types import Array

FEWEST_MASKS = 10
"""Nodules with (or without) a mask from which constants can be fitted."""
FEWEST_OF_A_CLASS = 20
"""Well-read nodules of either class from which the class is calibrated on them alone."""
THRESHOLD_EDGES_MM = (12.0,)
"""Regressed diameter from which masks get a threshold of their own."""
FEWEST_FOR_THRESHOLD = 20
"""Nodules that this needs: a median asks for fewer than a 90% quantile."""


def fit_calibration(
    held: Sequence[CachedNodule],
    training_embeddings: Array,
    baselines: dict[str, Any],
    further: Sequence[CachedNodule] = (),
) -> Calibration:
    """Fit every constant of a model's calibration.

    Args:
        held: nodules of patients that the members never trained on; any subset of patients.
        training_embeddings: [N, members * D] of training nodules, for the out-of-distribution
            score; those of the held nodules may stand in where only the other constants matter.
        baselines: predictors to be kept with the model, for evaluation.
        further: nodules answered by other networks of the same configuration, which never trained
            on their patients either; all but the out-of-distribution score is fitted to them too.

    Raises:
        ModelError: the network draws too few masks, or the nodules are too few or of one class.
    """
    if not held:
        raise ModelError("no nodules to calibrate on: keep a fold of patients apart from training")
    for one in further:
        if one.masks.keys() != held[0].masks.keys():
            raise ModelError(
                f"{one.case.id}: its masks were measured at other levels than those of this "
                "model; cross-validate with the same configuration and version"
            )
    pooled = [*held, *further]
    draft = _of_heads(
        pooled,
        Calibration(
            out_of_distribution=fit_out_of_distribution(
                training_embeddings, [h.observation for h in held], [h.mask_mean for h in held]
            ),
            baselines=baselines,
        ),
    )
    if held[0].masks:
        draft = replace(draft, mask_thresholds=_fit_mask_thresholds(pooled, draft))
    return _of_sizes(pooled, draft)


def fit_presence(held: Sequence[CachedNodule], negatives: Sequence[RawOutputs]) -> NodulePresence:
    """Fit the calibration of "nodule or not", nodules and other places weighing the same in all.

    Args:
        held: nodules of patients that the members never trained on; those marked by at least
            three readers count, if there are enough.
        negatives: what the members say of places without a nodule of such patients.

    Raises:
        ModelError: no negatives, or nodules look no more like nodules than they do.
    """
    if not negatives:
        raise ModelError("no negatives of calibration patients: prepare them from the same data")
    well_read = [h for h in held if len(h.case.malignancy) >= MINIMUM_READERS]
    nodules = well_read if len(well_read) >= FEWEST_OF_A_CLASS else held
    said = [nodule_logit(h.observation.outputs) for h in nodules]
    said += [nodule_logit(one.outputs) for one in negatives]
    present = np.array([1.0] * len(nodules) + [0.0] * len(negatives))
    weight = np.where(present > 0, 1 / len(nodules), 1 / len(negatives)) * len(said) / 2
    slopes, intercept = fit_platt({"logit": np.array(said)}, present, weight)
    if slopes["logit"] <= 0:
        raise ModelError("the network does not tell nodules from other places: train longer")
    return NodulePresence(slopes["logit"], intercept)


def refit_calibration(
    held: Sequence[CachedNodule], before: Sequence[CachedNodule], calibration: Calibration
) -> Calibration:
    """Move the constants by what new output layers change; what is of masks and intervals stays.

    Each is fitted to both answers of the same nodules, and moves by the difference: what is chance
    in which nodules they are cancels, so that few of them do.

    Args:
        held: nodules of patients apart, answered by the new layers.
        before: the same, answered by the old ones.
        calibration: of the old ones.
    """
    (new_gain, new_offset), (gain, offset) = (_platt(part, calibration) for part in (held, before))
    if min(new_gain, gain) <= 0:  # no layers that say anything: nothing to be moved
        return calibration
    texture, new, old = calibration.texture, _fit_texture(held), _fit_texture(before)
    moved = np.array(texture.offsets) + np.array(new.offsets) - np.array(old.offsets)
    return replace(
        calibration,
        class_slopes={k: v * new_gain / gain for k, v in calibration.class_slopes.items()},
        class_intercept=(new_gain * calibration.class_intercept + new_offset - offset) / gain,
        malignancy_temperature=calibration.malignancy_temperature
        * _fit_malignancy(held)
        / _fit_malignancy(before),
        texture=replace(
            texture,
            temperature=texture.temperature * new.temperature / old.temperature,
            offsets=tuple(moved.tolist()),
        ),
    )


def _platt(held: Sequence[CachedNodule], calibration: Calibration) -> tuple[float, float]:
    """Return slope and intercept that the class's logit lacks on these nodules."""
    clear, malignant, weight = _clear(held)
    said = [calibration.probability_malignant(h.observation.outputs) for h in clear]
    slopes, intercept = fit_platt({"logit": logit(np.array(said))}, malignant, weight)
    return slopes["logit"], intercept


def _of_heads(held: Sequence[CachedNodule], draft: Calibration) -> Calibration:
    return replace(
        draft,
        **_fit_class(held),
        malignancy_temperature=_fit_malignancy(held),
        texture=_fit_texture(held),
    )


def _of_sizes(held: Sequence[CachedNodule], draft: Calibration) -> Calibration:
    draft = _fit_size_intervals(held, draft)
    return replace(
        draft,
        score_widths=_fit_score_widths(held, draft),
        decision_threshold=_fit_decision(held, draft),
    )


def _rated(held: Sequence[CachedNodule]) -> list[CachedNodule]:
    return [h for h in held if h.case.malignancy]


def _clear(held: Sequence[CachedNodule]) -> tuple[list[CachedNodule], Array, Array]:
    """Return nodules whose median is not 3, with class [N] 0 or 1 and weight [N].

    Those of at least three readers, if they suffice: their class is the one that is told, and
    nodules that fewer readers marked are of the other class more often than they look.
    """
    rated = _rated(held)
    well_read = [h for h in rated if len(h.case.malignancy) >= MINIMUM_READERS]
    shares = [malignant_share(h.case.malignancy) for h in well_read]
    if min(shares.count(0.0), shares.count(1.0)) >= FEWEST_OF_A_CLASS:
        rated = well_read
    share = np.array([malignant_share(h.case.malignancy) for h in rated])
    clear = [h for h, s in zip(rated, share, strict=True) if s != 0.5]
    malignant = share[share != 0.5]
    if len(set(malignant)) < 2:
        raise ModelError(
            f"the {len(clear)} calibration nodules with a clear class are all of one class: "
            "keep more patients apart for calibration"
        )
    return clear, malignant, np.array([class_weight(h.case.malignancy) for h in clear])


def _fit_class(held: Sequence[CachedNodule]) -> dict[str, Any]:
    clear, malignant, weight = _clear(held)
    features = [class_features(h.observation.outputs) for h in clear]
    columns = {name: np.array([f[name] for f in features]) for name in features[0]}
    slopes, intercept = fit_platt(columns, malignant, weight)
    return {"class_slopes": slopes, "class_intercept": intercept}


def _fit_decision(held: Sequence[CachedNodule], draft: Calibration) -> float:
    clear, malignant, _ = _clear(held)
    probability = [draft.probability_malignant(h.observation.outputs) for h in clear]
    return fit_decision_threshold(np.array(probability), malignant)


def _fit_malignancy(held: Sequence[CachedNodule]) -> float:
    rated = _rated(held)
    logits = np.array([h.observation.outputs["malignancy"] for h in rated])
    counts = [np.bincount(np.array(h.case.malignancy) - 1, minlength=5) for h in rated]
    return fit_temperature(logits, np.array(counts, float))


def _fit_texture(held: Sequence[CachedNodule]) -> TextureCalibration:
    rated = [h for h in held if h.case.texture_class]
    if not rated:
        return TextureCalibration()
    names = TEXTURE_CLASS.levels
    target = np.array([names.index(str(h.case.texture_class)) for h in rated])
    counts = np.bincount(target, minlength=len(names)) + 1.0  # no class counts as impossible
    logits = np.array([h.observation.outputs[TEXTURE_CLASS.name] for h in rated])
    temperature, offsets = fit_vector_scaling(logits, target)
    return TextureCalibration(temperature, offsets, tuple((counts / counts.sum()).tolist()))


def _fit_mask_thresholds(held: Sequence[CachedNodule], draft: Calibration) -> Bands:
    """Fit the usual level of no median bias; large nodules want a higher one than small ones."""
    regressed = np.array([sizes.regressed_diameter_of(h.observation) for h in held])
    log_ratio = np.array([_log_ratios(h, draft) for h in held])
    drawn = (~np.isnan(log_ratio)).sum(0).max()
    if drawn < FEWEST_MASKS:
        raise ModelError(
            f"{drawn} of {len(held)} calibration nodules got a mask, at least "
            f"{FEWEST_MASKS} are needed: train for more epochs"
        )

    def best(rows: NDArray[np.int64]) -> float:
        columns = (ratios[~np.isnan(ratios)] for ratios in log_ratio[rows].T)
        bias = [abs(np.median(ratios)) if len(ratios) else np.inf for ratios in columns]
        return LEVELS[int(np.argmin(bias))]

    return fit_bands(regressed, best, THRESHOLD_EDGES_MM, FEWEST_FOR_THRESHOLD)


def _log_ratios(held: CachedNodule, draft: Calibration) -> list[float]:
    """Return log measured over true diameter for each usual level; NaN where one is missing."""
    name = "equivalent_diameter_mm"
    measured = {level: drawn.measured for level, drawn in held.masks.items()}
    diameters_mm = {level: m.equivalent_diameter_mm if m else None for level, m in measured.items()}
    regressed_mm = sizes.regressed_diameter_of(held.observation)
    sigma = sizes.sigma_of(held.observation)
    subsolid = sizes.subsolid_of(held.observation, draft)
    ratios = []
    for level in LEVELS:
        settled = settle(diameters_mm.get, usual_level(level, subsolid), regressed_mm, sigma)
        found_mm = diameters_mm.get(settled)
        true_mm = held.truth.get(name)
        ratios.append(float(np.log(found_mm / true_mm)) if found_mm and true_mm else np.nan)
    return ratios


def _fit_size_intervals(held: Sequence[CachedNodule], draft: Calibration) -> Calibration:
    """Fit the intervals of measured sizes, and of regressed ones where no mask was found."""
    told = [
        (h, sizes.size(h.observation, raw_prediction(h, draft).measured, draft)[0]) for h in held
    ]
    drawn = [(h, size) for h, size in told if size.volume_mm3 is not None]
    without = [(h, size) for h, size in told if size.volume_mm3 is None]
    if len(without) < FEWEST_MASKS:
        without = [(h, sizes.size(h.observation, None, draft)[0]) for h in held]
    return replace(
        draft,
        size_intervals=_fit_intervals(drawn, MEASURED, draft),
        regressed_intervals=_fit_intervals(without, [task.name for task in SIZES], draft),
    )


def _fit_intervals(
    told: Sequence[tuple[CachedNodule, Size]], names: Sequence[str], draft: Calibration
) -> dict[str, LogInterval]:
    """Fit the interval of each size; a size with too few nodules gets none."""
    fitted = {name: _fit_interval(told, name, draft) for name in names}
    return {name: interval for name, interval in fitted.items() if interval is not None}


def _fit_interval(
    told: Sequence[tuple[CachedNodule, Size]], name: str, draft: Calibration
) -> LogInterval | None:
    rows = [
        (
            abs(np.log(getattr(size, name) / h.truth[name])),
            sizes.sigma_of(h.observation),
            sizes.subsolid_of(h.observation, draft),
            size.equivalent_diameter_mm,
        )
        for h, size in told
        if name in h.truth
    ]
    return fit_log_interval(*np.array(rows, float).reshape(-1, 4).T)


def _fit_score_widths(held: Sequence[CachedNodule], draft: Calibration) -> Bands | None:
    rated = _rated(held)
    seen = [raw_prediction(h, draft) for h in rated]
    said = [
        postprocessing.score_and_deviation(draft.malignancy(s.observation.outputs)) for s in seen
    ]
    score, deviation = np.array(said).T
    error = np.abs(score - [float(np.mean(h.case.malignancy)) for h in rated])
    return fit_widths(error / deviation, np.array([sizes.diameter_of(s) for s in seen]))
