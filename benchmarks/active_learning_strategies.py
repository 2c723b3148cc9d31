"""Play the active-learning simulation with strategies that the app does not offer.

    python benchmarks/active_learning_strategies.py --data STACKS --model MODEL --out OUT

Thirteen strategies, most of them of the literature, beside those of `resmtnet
simulate-active-learning`, which has the same options; docs/experiments/active_learning.md holds the
figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import active_learning_scores as extra
from resmtnet.active import scores, selection
from resmtnet.active.information import PRIOR_GAIN, SMALL_MM, information, informative
from resmtnet.active.simulation.experiment import run, simulate
from resmtnet.active.simulation.heads import Logistic, Ridge, fit_logistic, pair
from resmtnet.active.simulation.pool import Indices, Pool, Truth
from resmtnet.active.simulation.report import goal_text, write_report
from resmtnet.active.simulation.rounds import BUDGETS, Game
from resmtnet.active.simulation.strategies import STRATEGIES, Strategy, View
from resmtnet.active.strata import TEXTURE_CUTS
from resmtnet.data.archive import Archive
from resmtnet.findings import ModelInfo
from resmtnet.training.cached_store import load_cached
from resmtnet.types import Array

MEMBERS = 8
"""Class heads of the ensemble."""
TILT = 0.5
COLD = 100
"""Labels up to which *targeted* draws from strata: predictions of what is difficult are poor."""
DIFFICULT_WEIGHT = 3.0
"""Of the error of nodules predicted to be sub-solid or of 6 to 10 mm."""
LEAST_DOUBT = 0.1
"""So that nodules the model is sure about are drawn now and then: it may be wrong about them."""
WIDTH_90 = 3.29
"""Standard deviations in a normal 90% interval."""


def _tilted(tilt: float, by_doubt: bool) -> Strategy:
    def choose(view: View, free: Indices, count: int) -> Indices:
        groups, known = view.strata[free].tolist(), view.strata[view.labelled].tolist()
        worth = LEAST_DOUBT + doubt(view)[free] if by_doubt else None
        return extra.tilted(groups, known, count, view.generator, tilt, worth)

    return choose


def _information(view: View, free: Indices, count: int) -> Indices:
    x, patients = view.features, view.patients[free].tolist()
    return informative(
        posterior_information(view)[free], x[free], x[view.labelled], patients, count
    )


def _entropy(view: View, free: Indices, count: int) -> Indices:
    return selection.best(extra.class_entropy(view.probabilities[free]), count)


def _bald(view: View, free: Indices, count: int) -> Indices:
    members = fit_members(
        view.features, view.truth, view.labelled, view.patients, MEMBERS, view.generator
    )
    found = np.stack([pair(member.logit(view.features[free])) for member in members])
    return selection.best(extra.disagreement(found), count)


def _badge(view: View, free: Indices, count: int) -> Indices:
    residual = extra.class_residuals(view.probabilities[free])[:, None]
    gradients = extra.gradient_embeddings(view.features[free], residual)
    return extra.k_means_plus_plus(gradients, count, view.generator)


def _mixture(view: View, free: Indices, count: int) -> Indices:
    novelty = selection.nearest_squared(view.features[free], view.features[view.labelled])
    entropy = extra.class_entropy(view.probabilities[free])
    mixed = extra.mixture([entropy, posterior_information(view)[free], novelty], [1, 1, 1])
    return selection.best(mixed, count)


def _typical(view: View, free: Indices, count: int) -> Indices:
    """Information times typicality, unlike each other, of several patients."""
    x, known = view.features, view.features[view.labelled]
    worth = information(x, known, view.probabilities[:, 1]) * extra.typicality(x)
    return informative(worth[free], x[free], known, view.patients[free].tolist(), count)


def _targeted(view: View, free: Indices, count: int) -> Indices:
    """Strata until COLD labels; then what most reduces the error, difficult nodules twice."""
    if len(view.labelled) < COLD:
        return _tilted(TILT, by_doubt=False)(view, free, count)
    x = view.features
    mm, texture = np.exp(view.heads.log_mm.mean(x)), view.heads.texture.mean(x)
    low, high = SMALL_MM
    difficult = (texture < TEXTURE_CUTS[1]) | ((mm >= low) & (mm < high))
    weight = np.where(difficult, DIFFICULT_WEIGHT, 1.0)
    patients = view.patients[free].tolist()
    return extra.variance_reducing(x, free, view.labelled, weight, patients, count, PRIOR_GAIN)


def _hedged(view: View, free: Indices, count: int) -> Indices:
    """Half in proportion to the strata, half informative."""
    groups = view.strata[free].tolist()
    first = selection.proportional(groups, count - count // 2, view.generator)
    rest = np.setdiff1d(np.arange(len(free)), first)
    known = np.concatenate([view.labelled, free[first]])
    second = _most_informative(view, free[rest], known, count // 2)
    return np.concatenate([first, rest[second]])


def _within(view: View, free: Indices, count: int) -> Indices:
    """Strata in proportion to their size, informative within a stratum, the largest first."""
    groups = view.strata[free]
    share = np.bincount(groups[selection.proportional(groups.tolist(), count, view.generator)])
    known, found = view.labelled, []
    for group in np.argsort(-share, kind="stable")[: np.count_nonzero(share)]:
        index = np.flatnonzero(groups == group)
        chosen = index[_most_informative(view, free[index], known, int(share[group]))]
        known = np.concatenate([known, free[chosen]])
        found.append(chosen)
    return np.concatenate(found)


def _unweighted(view: View, free: Indices, count: int) -> Indices:
    """Informative, all nodules alike: the default until small ones counted more."""
    return _most_informative(view, free, view.labelled, count)


def _most_informative(view: View, free: Indices, known: Indices, count: int) -> Indices:
    x = view.features
    worth = information(x[free], x[known], view.probabilities[free, 1])
    return informative(worth, x[free], x[known], view.patients[free].tolist(), count)


OTHERS: Mapping[str, Strategy] = {
    "balanced": _tilted(0.0, by_doubt=False),
    "tilted": _tilted(TILT, by_doubt=False),
    "doubted": _tilted(TILT, by_doubt=True),
    "information": _information,
    "entropy": _entropy,
    "bald": _bald,
    "badge": _badge,
    "mixture": _mixture,
    "typical": _typical,
    "targeted": _targeted,
    "hedged": _hedged,
    "within strata": _within,
    "unweighted": _unweighted,
}
"""The app offers none of these."""


def posterior_information(view: View) -> Array:
    """[N] nats that a label gives about all four quantities, by the heads' own posteriors."""
    heads, x = view.heads, view.features
    ridges = (heads.score, heads.log_mm, heads.texture)
    p = view.probabilities[:, 1]
    noise = [np.full(len(x), ridge.noise) for ridge in ridges]
    return scores.expected_information(
        np.stack([*(r.variance(x) for r in ridges), heads.malignant.variance(x)], 1),
        np.stack([*noise, 1 / np.maximum(p * (1 - p), 1e-6)], 1),
    )


def doubt(view: View) -> Array:
    """[N] doubt about class, score and size together, as the app computes it from its answers."""

    def width(ridge: Ridge) -> Array:
        spread = np.sqrt(ridge.variance(view.features) + ridge.noise)
        return np.asarray(WIDTH_90 * spread)

    return scores.joint_doubt(
        extra.class_residuals(view.probabilities),
        width(view.heads.score),
        width(view.heads.log_mm),
        np.full(len(view.features), np.nan),
    )


def fit_members(
    features: Array,
    truth: Truth,
    labelled: Indices,
    patients: NDArray[np.str_],
    members: int,
    generator: np.random.Generator,
) -> tuple[Logistic, ...]:
    """Fit an ensemble of class heads, each on patients drawn with replacement.

    Args:
        features: [N, K] of all nodules.
        truth: of all nodules; only that of the labelled ones is read.
        labelled: indices.
        patients: [N] of all nodules.
        members: how many.
        generator: draws the patients.
    """
    names, group = np.unique(patients[labelled], return_inverse=True)
    found = []
    for _ in range(members):
        drawn = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        weight = truth.malignant_weight[labelled] * drawn[group]
        found.append(fit_logistic(features[labelled], truth.malignant[labelled], weight))
    return tuple(found)


def stored_pool(data: Path, held: Path) -> Pool:
    """The pool of what a network said of the folds that it left out; no network is run."""
    by_id = {nodule.id: nodule for nodule in Archive.open(data).nodules}
    answers = load_cached(held)
    embeddings = np.array([one.observation.embeddings.ravel() for one in answers], np.float32)
    nodules = tuple(by_id[one.case.id] for one in answers)
    return Pool(nodules, embeddings, ModelInfo("resmtnet", held.parent.name, "0" * 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="archive of `resmtnet prepare`")
    parser.add_argument("--model", type=Path, action="append", default=[], help="repeat for more")
    parser.add_argument(
        "--held",
        type=Path,
        action="append",
        default=[],
        help="held.safetensors of a cross-validation, in place of a model; repeat for more",
    )
    parser.add_argument("--strategy", action="append", choices=[*STRATEGIES, *OTHERS])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seeds", type=int, default=10, help="games of each strategy and model")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="numbers of labels")
    parser.add_argument("--device")
    given = parser.parse_args()
    everything = {**STRATEGIES, **OTHERS}
    strategies = {name: everything[name] for name in given.strategy or everything}
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    game = Game(tuple(given.budgets))

    def tell(what: str, done: int, of: int) -> None:
        print(f"{what}: {done} of {of}", flush=True)

    if given.held:
        pools = [stored_pool(given.data, path) for path in given.held]
        document = simulate(pools, strategies, seeds, game, tell)
        files = write_report(given.out, document)
    else:
        document, files = run(
            given.data, given.model, given.out, strategies, seeds, game, given.device, tell
        )
    print(goal_text(document))
    print("\n".join(str(file) for file in files))


if __name__ == "__main__":
    main()
