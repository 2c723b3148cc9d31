"""The strategies that are compared, by name: each chooses among nodules that have no label yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resmtnet.active import scores, selection
from resmtnet.active.information import information, informative
from resmtnet.active.simulation.heads import Ridge, SimulatedHeads, fit_members, pair
from resmtnet.active.simulation.pool import Indices, Truth
from resmtnet.types import Array

MEMBERS = 8
"""Of the ensemble of class heads."""
TILT = 0.5
LEAST_DOUBT = 0.1
"""So that what the model thinks it knows is drawn now and then, and found wrong if it is."""
WIDTH_90 = 3.29
"""Standard deviations in a normal 90% interval."""


@dataclass(frozen=True, eq=False)
class View:
    """What a strategy may look at: labels only through heads fitted on the labelled nodules."""

    features: Array
    """[N, K] of all nodules that may be labelled."""
    truth: Truth
    """For the ensemble, which reads that of the labelled ones."""
    heads: SimulatedHeads
    labelled: Indices
    patients: NDArray[np.str_]
    generator: np.random.Generator

    @cached_property
    def probabilities(self) -> Array:
        """[N, 2] of benign and malignant."""
        return self.heads.probabilities(self.features)

    @cached_property
    def strata(self) -> Indices:
        """[N] number of the stratum: size band x texture, both predicted."""
        return self.heads.strata(self.features)

    @cached_property
    def information(self) -> Array:
        """[N] nats that a label gives, by the heads' own posteriors: about all four together."""
        heads, x = self.heads, self.features
        ridges = (heads.score, heads.log_mm, heads.texture)
        p = self.probabilities[:, 1]
        noise = [np.full(len(x), ridge.noise) for ridge in ridges]
        return scores.expected_information(
            np.stack([*(r.variance(x) for r in ridges), heads.malignant.variance(x)], 1),
            np.stack([*noise, 1 / np.maximum(p * (1 - p), 1e-6)], 1),
        )

    @cached_property
    def doubt(self) -> Array:
        """[N] doubt about class, score and size together, as the app has it of its answers."""

        def width(ridge: Ridge) -> Array:
            spread = np.sqrt(ridge.variance(self.features) + ridge.noise)
            return np.asarray(WIDTH_90 * spread)

        unknown = np.full(len(self.features), np.nan)
        return scores.joint_doubt(
            scores.class_residuals(self.probabilities),
            width(self.heads.score),
            width(self.heads.log_mm),
            unknown,
        )


Strategy = Callable[[View, Indices, int], Indices]
"""Of a view, the nodules that are free and how many are wanted: indices into the free ones."""


def _random(view: View, free: Indices, count: int) -> Indices:
    return selection.at_random(len(free), count, view.generator)


def _stratified(view: View, free: Indices, count: int) -> Indices:
    return selection.proportional(view.strata[free].tolist(), count, view.generator)


def _tilted(tilt: float, by_doubt: bool) -> Strategy:
    def choose(view: View, free: Indices, count: int) -> Indices:
        groups, known = view.strata[free].tolist(), view.strata[view.labelled].tolist()
        worth = LEAST_DOUBT + view.doubt[free] if by_doubt else None
        return selection.tilted(groups, known, count, view.generator, tilt, worth)

    return choose


def _entropy(view: View, free: Indices, count: int) -> Indices:
    return selection.best(scores.class_entropy(view.probabilities[free]), count)


def _bald(view: View, free: Indices, count: int) -> Indices:
    members = fit_members(
        view.features, view.truth, view.labelled, view.patients, MEMBERS, view.generator
    )
    found = np.stack([pair(member.logit(view.features[free])) for member in members])
    return selection.best(scores.disagreement(found), count)


def _core_set(view: View, free: Indices, count: int) -> Indices:
    return selection.k_centre(view.features[free], view.features[view.labelled], count)


def _badge(view: View, free: Indices, count: int) -> Indices:
    residual = scores.class_residuals(view.probabilities[free])[:, None]
    gradients = scores.gradient_embeddings(view.features[free], residual)
    return selection.k_means_plus_plus(gradients, count, view.generator)


def _informative(view: View, free: Indices, count: int) -> Indices:
    known = view.features[view.labelled]
    told = information(view.features, known, view.probabilities[:, 1])
    return _telling(view, free, told, count)


def _information(view: View, free: Indices, count: int) -> Indices:
    return _telling(view, free, view.information, count)


def _telling(view: View, free: Indices, told: Array, count: int) -> Indices:
    x = view.features
    groups = view.patients[free].tolist()
    return informative(told[free], x[free], x[view.labelled], groups, count)


def _mixture(view: View, free: Indices, count: int) -> Indices:
    known = view.features[view.labelled]
    novelty = selection.nearest_squared(view.features[free], known)
    entropy = scores.class_entropy(view.probabilities[free])
    mixed = scores.mixture([entropy, view.information[free], novelty], [1, 1, 1])
    return selection.best(mixed, count)


STRATEGIES: Mapping[str, Strategy] = {
    "random": _random,
    "stratified": _stratified,
    "balanced": _tilted(0.0, by_doubt=False),
    "tilted": _tilted(TILT, by_doubt=False),
    "doubted": _tilted(TILT, by_doubt=True),
    "informative": _informative,
    "information": _information,
    "entropy": _entropy,
    "bald": _bald,
    "core-set": _core_set,
    "badge": _badge,
    "mixture": _mixture,
}
DEFAULT = "informative"
"""That of the app."""
BASELINES = ("stratified", "random")
"""What every other strategy is compared with."""
