"""Prediction intervals with a promised coverage: conformal widths, fitted for each band of size.

Vovk et al., "Algorithmic Learning in a Random World" (2005): Mondrian prediction, each band of the
predicted diameter covered by itself. Texture enters the spread: sub-solid nodules are too few for
bands of their own, and their readers disagree most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.network.uncertainty import conformal_quantile
from resmtnet.types import Array

EDGES_MM = (6.0, 8.0, 10.0, 15.0, 25.0)
"""Predicted diameters at which bands begin, where there are enough nodules."""
COVERAGE = 0.9
FEWEST = 40
"""Calibration nodules of a band; one with fewer joins its smaller neighbour."""
LEAST_ERROR = 0.005
"""Errors of the log below this count as this when the spread is fitted."""
PENALTY = 0.003
"""Holds the slopes of the spread near 0 where nodules are few."""


@dataclass(frozen=True)
class Bands:
    """A step function of the predicted diameter."""

    edges_mm: tuple[float, ...]
    """Diameters at which the second and each further band begins."""
    values: tuple[float, ...]
    """One more than edges."""

    def at(self, diameter_mm: float) -> float:
        """Return the value for a predicted diameter.

        >>> Bands((6.0,), (1.5, 2.0)).at(7.0)
        2.0
        """
        return self.values[int(np.searchsorted(self.edges_mm, diameter_mm, side="right"))]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"edges_mm": list(self.edges_mm), "values": list(self.values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Bands:
        """Read what to_json gave."""
        return cls(tuple(values["edges_mm"]), tuple(values["values"]))


def fit_bands(
    diameter_mm: Array,
    fit: Callable[[NDArray[np.int64]], float],
    edges_mm: Sequence[float] = EDGES_MM,
    fewest: int = FEWEST,
) -> Bands:
    """Fit one value to the nodules of each band.

    Args:
        diameter_mm: [N] predicted diameters, which a new nodule has as well.
        fit: gives the value for the nodules of an index [n].
        edges_mm: where bands may begin.
        fewest: nodules that a band needs; fewer join the smaller neighbour.

    >>> fit_bands(np.array([4.0, 5.0, 9.0, 9.0]), lambda n: float(n.max()), (6.0,), 2)
    Bands(edges_mm=(6.0,), values=(1.0, 3.0))
    """
    edges = [float(edge) for edge in edges_mm]
    while True:
        band = np.searchsorted(edges, diameter_mm, side="right")
        counts = np.bincount(band, minlength=len(edges) + 1)
        least = int(counts.argmin())
        if counts[least] >= fewest or not edges:
            break
        below = counts[least - 1] if least > 0 else np.inf
        above = counts[least + 1] if least < len(edges) else np.inf
        edges.pop(least - 1 if below <= above else least)
    values = (fit(np.flatnonzero(band == n)) for n in range(len(edges) + 1))
    return Bands(tuple(edges), tuple(values))


def fit_widths(scores: Array, diameter_mm: Array, coverage: float = COVERAGE) -> Bands | None:
    """Fit half widths that cover the calibration errors of each band by itself (Mondrian).

    Args:
        scores: [N] absolute errors in units of the predicted spread.
        diameter_mm: [N] predicted diameters.
        coverage: of the intervals.

    Returns:
        The widths, or None where the nodules are too few for any interval of this coverage.
    """
    widths = fit_bands(diameter_mm, lambda n: conformal_quantile(scores[n], coverage))
    return widths if np.isfinite(widths.values).all() else None


@dataclass(frozen=True)
class LogInterval:
    """Half width of the interval of a log size."""

    offset: float
    """The spread is exp(offset + sigma_slope * log sigma + subsolid_slope * P(sub-solid))."""
    sigma_slope: float
    subsolid_slope: float
    widths: Bands
    """Half width in spreads, by predicted diameter."""

    def half_width(
        self, sigma: Array | float, subsolid: Array | float, diameter_mm: float
    ) -> float:
        """Return the half width for a new nodule.

        Args:
            sigma: predicted standard deviation of its log diameter.
            subsolid: probability that it is not solid.
            diameter_mm: predicted.
        """
        return float(self.spread(sigma, subsolid)) * self.widths.at(diameter_mm)

    def spread(self, sigma: Array | float, subsolid: Array | float) -> Array:
        """Return the expected error of the log, before the conformal widths."""
        linear = self.sigma_slope * np.log(sigma) + self.subsolid_slope * np.asarray(subsolid)
        return np.asarray(np.exp(self.offset + linear))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self) | {"widths": self.widths.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LogInterval:
        """Read what to_json gave."""
        return cls(**{**values, "widths": Bands.from_json(values["widths"])})


def fit_log_interval(
    error: Array, sigma: Array, subsolid: Array, diameter_mm: Array, coverage: float = COVERAGE
) -> LogInterval | None:
    """Fit spread and widths to calibration errors.

    Args:
        error: [N] absolute errors of the log size.
        sigma: [N] predicted standard deviations of the log diameter.
        subsolid: [N] probabilities of not being solid.
        diameter_mm: [N] predicted diameters.
        coverage: of the intervals.

    Returns:
        The interval, or None where the nodules are too few for one of this coverage.
    """
    if not np.isfinite(conformal_quantile(error, coverage)):
        return None
    from sklearn.linear_model import QuantileRegressor

    features = np.stack([np.log(sigma), subsolid], 1)
    log_error = np.log(np.maximum(error, LEAST_ERROR))
    fitted = QuantileRegressor(quantile=coverage, alpha=PENALTY, solver="highs")
    fitted.fit(features, log_error)
    by_sigma, by_texture = (float(slope) for slope in fitted.coef_)
    draft = LogInterval(float(fitted.intercept_), by_sigma, by_texture, Bands((), (1.0,)))
    widths = fit_widths(error / draft.spread(sigma, subsolid), diameter_mm, coverage)
    return dataclasses.replace(draft, widths=widths) if widths else None
