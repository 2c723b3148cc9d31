"""How likely there is a nodule at a point, from what a network with that task says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resmtnet.characteristics import NODULE
from resmtnet.errors import ConfigError
from resmtnet.network.uncertainty import sigmoid
from resmtnet.types import Array

CLICKED_SHARE = 0.9
"""Share of nodules among the points that somebody clicks: few readers point at a vessel."""
CANDIDATE_SHARE = 0.05
"""Share of nodules among the places that the search of a whole CT proposes."""


@dataclass(frozen=True)
class NodulePresence:
    """Calibration of the task "nodule or not".

    The logit is fitted as if nodules and other places were equally many; the odds are then those
    of the place: a click is on a nodule far more often than a candidate is.
    """

    slope: float = 1.0
    intercept: float = 0.0
    clicked_share: float = CLICKED_SHARE
    candidate_share: float = CANDIDATE_SHARE
    click_threshold: float = 0.5
    """Below this probability a clicked point is told to be probably no nodule."""
    candidate_threshold: float = 0.1
    """Below this probability a candidate is not shown: about two false positives a CT."""

    def probability(self, outputs: Mapping[str, Array], *, candidate: bool) -> float:
        """Return the calibrated probability that there is a nodule.

        Args:
            outputs: of the network, with those of the task.
            candidate: the place was proposed by the search, not clicked.
        """
        return float(sigmoid(np.asarray(self.log_odds(outputs, candidate=candidate))))

    def log_odds(self, outputs: Mapping[str, Array], *, candidate: bool) -> float:
        """Return the logarithm of the odds of that probability."""
        share = self.candidate_share if candidate else self.clicked_share
        return self.slope * nodule_logit(outputs) + self.intercept + _log_odds(share)

    def least_candidate_log_odds(self, threshold: float | None = None) -> float:
        """Return the log odds from which a candidate is shown, -inf where all are.

        Args:
            threshold: least probability, 0 to 1; None: candidate_threshold.

        Raises:
            ConfigError: a threshold outside 0 to 1.
        """
        least = self.candidate_threshold if threshold is None else threshold
        if not 0 <= least <= 1:
            raise ConfigError(f"candidate_threshold is {least}; allowed are 0 to 1")
        return _log_odds(least)

    def least_logit(self, *, candidate: bool) -> float:
        """Return the network's logit from which a place counts as a nodule; see probability."""
        share = self.candidate_share if candidate else self.clicked_share
        least = self.candidate_threshold if candidate else self.click_threshold
        odds = math.log(share / (1 - share))
        return (math.log(least / (1 - least)) - odds - self.intercept) / self.slope

    def probable_candidates(
        self, outputs: Sequence[Mapping[str, Array]], threshold: float | None = None
    ) -> list[int]:
        """Return the candidates that are probable enough to be shown, the most probable first.

        Args:
            outputs: of each candidate.
            threshold: least probability, 0 to 1; None: candidate_threshold.

        Raises:
            ConfigError: a threshold outside 0 to 1.
        """
        least = self.least_candidate_log_odds(threshold)
        likely = [self.log_odds(one, candidate=True) for one in outputs]
        ranked = sorted(range(len(likely)), key=lambda n: -likely[n])
        return [n for n in ranked if likely[n] >= least]

    def to_json(self) -> dict[str, float]:
        """Return the plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NodulePresence:
        """Read what to_json gave."""
        return cls(**values)


def _log_odds(probability: float) -> float:
    """Return the log odds of a probability, infinite for 0 and 1."""
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def nodule_logit(outputs: Mapping[str, Array]) -> float:
    """Return the network's logit that there is a nodule.

    >>> nodule_logit({"nodule": np.array([-1.0, 2.0])})
    3.0
    """
    absent, present = outputs[NODULE.name]
    return float(present - absent)
