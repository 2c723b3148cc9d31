"""The rounds of one game: choose nodules, label them, fit the heads, judge on test patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.active.features import Projection
from resmtnet.active.simulation.heads import SimulatedHeads, fit_heads
from resmtnet.active.simulation.pool import Indices, Pool, Truth
from resmtnet.active.simulation.strategies import Strategy, View
from resmtnet.errors import InputError
from resmtnet.evaluation.metrics import auc
from resmtnet.types import Array

BUDGETS = (50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700, 750, 800)
"""Numbers of labels at which the heads are fitted and tested; the first are drawn at random."""
METRICS = ("auc", "score_mae", "diameter_mae_mm")
LEAST_CASES = 3
"""A stratum with fewer test nodules gets no figure."""

Curves = Mapping[str, Array]
"""By figure, values [budgets + 1]: at each budget, and last with the whole pool labelled."""


@dataclass(frozen=True)
class Game:
    """Settings that all strategies share."""

    budgets: tuple[int, ...] = BUDGETS

    def __post_init__(self) -> None:
        if list(self.budgets) != sorted(set(self.budgets)) or not self.budgets:
            raise InputError(f"budgets are {self.budgets}; increasing numbers are needed")
        if self.budgets[0] < 10:
            raise InputError(f"{self.budgets[0]} labels to start with; at least 10 are needed")


def play(
    pool: Pool,
    strategies: Mapping[str, Strategy],
    seeds: Sequence[int],
    game: Game,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, list[Curves]]:
    """Play every strategy with every seed; with one seed all share patients and first labels.

    Args:
        pool: of one trunk.
        strategies: by name.
        seeds: each decides the split of patients, the first labels and all random draws.
        game: budgets.
        tell: called with games done and their total.

    Returns:
        Curves of every strategy, in the order of the seeds.

    Raises:
        InputError: a budget is larger than the pool.
    """
    found: dict[str, list[Curves]] = {name: [] for name in strategies}
    done = 0
    for seed in seeds:
        deal = Deal.of(pool, seed)
        if len(deal.choosable) <= game.budgets[-1]:
            raise InputError(
                f"{game.budgets[-1]} labels are asked for, but seed {seed} leaves "
                f"{len(deal.choosable)} nodules to choose from; give smaller budgets"
            )
        for name, strategy in strategies.items():
            found[name].append(deal.play(strategy, game))
            done += 1
            tell(done, len(seeds) * len(strategies))
    return found


@dataclass(frozen=True, eq=False)
class Deal:
    """The data of one seed: the nodules that may be labelled, and the test nodules."""

    seed: int
    choosable: Indices
    """Indices into the pool of the nodules that may be labelled."""
    features: Array
    """[C, K] of the choosable ones."""
    truth: Truth
    """Labels of these."""
    patients: NDArray[np.str_]
    test_features: Array
    test_truth: Truth

    @classmethod
    def of(cls, pool: Pool, seed: int) -> Deal:
        """Split the patients of a pool."""
        choosable, tested = pool.split(seed)
        project = Projection.of(pool.embeddings[choosable])
        return cls(
            seed,
            choosable,
            project(pool.embeddings[choosable]),
            pool.truth.of(choosable),
            pool.patients[choosable],
            project(pool.embeddings[tested]),
            pool.truth.of(tested),
        )

    def play(self, strategy: Strategy, game: Game) -> Curves:
        """Let one strategy choose labels up to each budget, then label the rest."""
        first = np.random.default_rng([self.seed, 0]).permutation(len(self.choosable))
        chance = np.random.default_rng([self.seed, 1])
        labelled = first[: game.budgets[0]]
        heads = fit_heads(self.features, self.truth, labelled)
        rows = [figures(heads, self.test_features, self.test_truth)]
        for budget in (*game.budgets[1:], len(self.choosable)):
            free = np.setdiff1d(np.arange(len(self.choosable)), labelled)
            more = budget - len(labelled)
            if more < len(free):
                view = View(self.features, self.truth, heads, labelled, self.patients, chance)
                free = free[strategy(view, free, more)]
            labelled = np.concatenate([labelled, free])
            heads = fit_heads(self.features, self.truth, labelled)
            rows.append(figures(heads, self.test_features, self.test_truth))
        return {figure: np.array([row[figure] for row in rows]) for figure in rows[0]}


def figures(heads: SimulatedHeads, features: Array, truth: Truth) -> dict[str, float]:
    """Test heads: each metric on all test nodules and by stratum, NaN where there are too few.

    AUC is of protocol P, score MAE of nodules with three readers or more, diameter MAE of all.
    """
    logit = heads.malignant.logit(features)
    score_error = np.abs(np.clip(heads.score.mean(features), 1, 5) - truth.score)
    mm_error = np.abs(np.exp(heads.log_mm.mean(features)) - np.exp(truth.log_mm))
    everyone = np.ones(len(features), bool)
    found = {}
    for stratum, member in {"all": everyone, **truth.strata}.items():
        protocol = member & truth.in_protocol
        scored = member & truth.enough_readers
        sized = member & (truth.log_mm_weight > 0)
        for metric, value in (
            ("auc", _auc(truth.malignant[protocol], logit[protocol])),
            ("score_mae", _mean(score_error[scored])),
            ("diameter_mae_mm", _mean(mm_error[sized])),
        ):
            found[f"{stratum}: {metric}"] = value
    return found


def _auc(malignant: Array, logit: Array) -> float:
    return auc(malignant, logit) if min(malignant.sum(), (1 - malignant).sum()) >= 1 else np.nan


def _mean(errors: Array) -> float:
    return float(errors.mean()) if len(errors) >= LEAST_CASES else np.nan
