"""How unlike the training nodules an input is: one score, above 1 outside.

Two signs, each counted from its median in units of its spread among calibration nodules, and
added: the distance of the embedding knows soft tissue, noise and what is no CT, the mask's
silence at the point knows vessels, bronchi, bone and wall. No negatives are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.inference.ensemble import RawOutputs
from resmtnet.network.uncertainty import logit, mahalanobis
from resmtnet.types import Array

KEPT_QUANTILE = 0.99
"""Share of calibration nodules that count as within the distribution."""
LEAST_SPREAD = 1e-3
"""So that a sign that never varies among calibration nodules does not divide by 0."""


@dataclass(frozen=True)
class TypicalRange:
    """Where a sign lies among calibration nodules."""

    median: float = 0.0
    spread: float = 1.0
    """From the median to KEPT_QUANTILE."""

    def of(self, value: float) -> float:
        """Return how far a value lies above the median, in spreads.

        >>> TypicalRange(2.0, 0.5).of(3.0)
        2.0
        """
        return (value - self.median) / self.spread


@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """Fitted signs; without any, nothing is unfamiliar."""

    signs: Mapping[str, TypicalRange] = field(default_factory=dict)
    """By name; see signs_of."""
    limit: float = 1.0
    """Sum of the signs that KEPT_QUANTILE of the calibration nodules stay below."""
    mean: Array = field(default_factory=lambda: np.zeros(0))
    """[members * D], of the training nodules' embeddings."""
    precision: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """[members * D, members * D], inverse of their shrunk covariance."""

    def score(self, observation: RawOutputs, mask_mean: float) -> float:
        """Return how unlike the training nodules an input is, as a share of the accepted limit.

        Args:
            observation: raw outputs, with the embedding.
            mask_mean: see Scene.mask_mean; 1 without a mask decoder.
        """
        values = self.signs_of(observation, mask_mean)
        total = sum(usual.of(values[name]) for name, usual in self.signs.items())
        return max(0.0, total / self.limit)

    def signs_of(self, observation: RawOutputs, mask_mean: float) -> dict[str, float]:
        """Return every sign, larger = less like a nodule.

        "embedding": Mahalanobis distance; "mask": logit of no mask around the point.
        """
        embedding = observation.embedding.astype(float)
        distance = float(mahalanobis(embedding, self.mean, self.precision)) if len(self.mean) else 0
        return {"embedding": distance, "mask": -float(logit(mask_mean))}

    def to_json(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return the plain values, and the arrays."""
        signs = {k: {"median": v.median, "spread": v.spread} for k, v in self.signs.items()}
        arrays = {"embedding_mean": self.mean, "embedding_precision": self.precision}
        return (
            {"signs": signs, "limit": self.limit},
            {name: np.asarray(values, np.float32) for name, values in arrays.items()},
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> OutOfDistribution:
        """Read what to_json gave."""
        return cls(
            {name: TypicalRange(**usual) for name, usual in values["signs"].items()},
            values["limit"],
            np.asarray(arrays["embedding_mean"], float),
            np.asarray(arrays["embedding_precision"], float),
        )


def fit_out_of_distribution(
    training: Array, observations: Sequence[RawOutputs], mask_means: Sequence[float]
) -> OutOfDistribution:
    """Fit the signs.

    Args:
        training: [N, members * D] embeddings of training nodules.
        observations: of calibration nodules, which the members never trained on.
        mask_means: of the same.
    """
    from sklearn.covariance import LedoitWolf

    spread = LedoitWolf().fit(training)
    draft = OutOfDistribution(mean=spread.location_, precision=spread.precision_)
    pairs = list(zip(observations, mask_means, strict=True))
    rows = [draft.signs_of(observation, mask) for observation, mask in pairs]
    signs = {name: _usual(np.array([row[name] for row in rows])) for name in rows[0]}
    fitted = OutOfDistribution(signs, 1.0, draft.mean, draft.precision)
    totals = [fitted.score(observation, mask) for observation, mask in pairs]
    limit = max(float(np.quantile(totals, KEPT_QUANTILE)), LEAST_SPREAD)
    return OutOfDistribution(signs, limit, draft.mean, draft.precision)


def _usual(values: Array) -> TypicalRange:
    median = float(np.median(values))
    spread = float(np.quantile(values, KEPT_QUANTILE)) - median
    return TypicalRange(median, max(spread, LEAST_SPREAD))
