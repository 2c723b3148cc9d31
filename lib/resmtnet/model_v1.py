"""Reads the calibration of models of schema resmtnet.model/1: one member, one interval each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from resmtnet.calibration import Calibration
from resmtnet.conformal import Bands, LogInterval
from resmtnet.familiarity import Familiarity, Usual

SCHEMA_1 = "resmtnet.model/1"
SPREAD_1 = "embedding_spread.safetensors"


def calibration_of_version_1(values: Mapping[str, Any], arrays: Mapping[str, Any]) -> Calibration:
    """Return what the calibration.json and the embedding spread of an old model say."""
    return Calibration(
        class_slopes={"margin": values["class_slope"]},
        class_intercept=values["class_intercept"],
        decision_threshold=values["decision_threshold"],
        mask_thresholds=_always(values["mask_threshold"]),
        score_widths=_always(values["score_quantile"]),
        size_intervals={k: _interval(k, q) for k, q in values["size_quantiles"].items()},
        regressed_intervals={k: _interval(k, q) for k, q in values["regressed_quantiles"].items()},
        familiarity=Familiarity(
            signs={"embedding": Usual()},
            limit=values["ood_limit"],
            mean=np.asarray(arrays["embedding_mean"], float),
            precision=np.asarray(arrays["embedding_precision"], float),
        ),
        baselines=values["baselines"],
    )


def _always(value: float) -> Bands:
    return Bands((), (value,))


def _interval(name: str, quantile: float) -> LogInterval:
    exponent = 3.0 if name == "volume_mm3" else 1.0  # a diameter's error is threefold in the volume
    return LogInterval(float(np.log(exponent)), 1.0, 0.0, _always(quantile))
