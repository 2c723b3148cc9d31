"""The strategies that a simulation compares: those of the app, and two random baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resmtnet.active import selection
from resmtnet.active.information import information, informative, weight_of_small
from resmtnet.active.simulation.heads import SimulatedHeads
from resmtnet.active.simulation.pool import Indices, Truth
from resmtnet.errors import InputError
from resmtnet.types import Array


@dataclass(frozen=True, eq=False)
class View:
    """What a strategy may look at: it learns of labels only through heads fitted on them."""

    features: Array
    """[N, K] of all nodules that may be labelled."""
    truth: Truth
    """Labels of all of them; a strategy may read those of the labelled nodules only."""
    heads: SimulatedHeads
    """Fitted on the labelled nodules."""
    labelled: Indices
    """Nodules that have a label by now."""
    patients: NDArray[np.str_]
    """[N] patient of each nodule."""
    generator: np.random.Generator
    """For the random draws of the strategy."""

    @cached_property
    def probabilities(self) -> Array:
        """[N, 2] predicted probabilities of benign and malignant."""
        return self.heads.probabilities(self.features)

    @cached_property
    def strata(self) -> Indices:
        """[N] number of the predicted stratum of each nodule: size band x texture."""
        return self.heads.strata(self.features)


Strategy = Callable[[View, Indices, int], Indices]
"""Takes a view, the nodules without a label, and how many to choose; returns indices into them."""


def _random(view: View, free: Indices, count: int) -> Indices:
    """Any nodules, all equally likely."""
    return selection.at_random(len(free), count, view.generator)


def _stratified(view: View, free: Indices, count: int) -> Indices:
    """Random within each stratum, in proportion to its size."""
    return selection.proportional(view.strata[free].tolist(), count, view.generator)


def _informative(view: View, free: Indices, count: int) -> Indices:
    """What `resmtnet_informative` does."""
    x, known = view.features, view.features[view.labelled]
    likely = view.probabilities[:, 1]
    mm = np.exp(view.heads.log_mm.mean(x))
    expected = information(x, known, likely) * weight_of_small(mm, likely)
    return informative(expected[free], x[free], known, view.patients[free].tolist(), count)


def _diverse(view: View, free: Indices, count: int) -> Indices:
    """What `resmtnet_diverse` does."""
    return selection.k_centre(view.features[free], view.features[view.labelled], count)


BASELINE = "stratified"
"""The baseline that figures are compared with first."""
BASELINES = (BASELINE, "random")
"""What every other strategy is compared with."""
DEFAULT = "informative"
"""The default of the app."""
STRATEGIES: Mapping[str, Strategy] = {
    "random": _random,
    BASELINE: _stratified,
    DEFAULT: _informative,
    "diverse": _diverse,
}
"""By name; a simulation accepts others as well."""


def strategies_named(names: Sequence[str]) -> dict[str, Strategy]:
    """Return strategies by their names.

    Args:
        names: keys of STRATEGIES.

    Raises:
        InputError: a name is unknown.

    >>> list(strategies_named(["diverse", "random"]))
    ['diverse', 'random']
    """
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise InputError(
            f"there is no strategy {unknown[0]!r}; available are {', '.join(STRATEGIES)}"
        )
    return {name: STRATEGIES[name] for name in names}
