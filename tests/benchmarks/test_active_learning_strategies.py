"""Strategies that the app does not offer: their scores, their choices, and games with them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

import active_learning_scores as extra
from active_learning_strategies import OTHERS
from made_pool import made_pool, view_of
from resmtnet.active.simulation.pool import Pool
from resmtnet.active.simulation.rounds import Deal, Game, play
from resmtnet.active.simulation.strategies import STRATEGIES
from resmtnet.errors import InputError

LINE = np.linspace(0, 9, 10)[:, None]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return made_pool()


@pytest.fixture(scope="module")
def deal(pool: Pool) -> Deal:
    return Deal.of(pool, 0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_entropy_is_greatest_where_the_class_is_a_coin_flip() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]])
    assert extra.class_entropy(p).argsort().tolist() == [2, 1, 0]


def test_disagreement_is_nothing_where_members_are_unsure_alike() -> None:
    unsure = np.full((3, 1, 2), 0.5)
    apart = np.array([[[0.9, 0.1]], [[0.1, 0.9]], [[0.5, 0.5]]])
    assert extra.disagreement(unsure)[0] == pytest.approx(0, abs=1e-12)
    assert extra.disagreement(apart)[0] > 0.2


def test_typical_nodules_lie_amid_many_alike() -> None:
    crowd, alone = rng().normal(0, 0.1, (30, 3)), np.full((1, 3), 5.0)
    assert extra.typicality(np.concatenate([crowd, alone]), neighbours=5).argmin() == 30


def test_variance_falls_most_where_the_counted_nodules_are() -> None:
    features = np.concatenate([np.tile([1.0, 0.0], (8, 1)), np.tile([0.0, 1.0], (8, 1))])
    weight = np.r_[np.ones(8), np.full(8, 3.0)]
    free, none = np.arange(16), np.zeros(0, np.intp)
    first = extra.variance_reducing(features, free, none, weight, list(range(16)), 1, 1.0)
    assert first[0] >= 8
    known = np.arange(8, 14)
    free = np.r_[np.arange(8), [14, 15]]
    then = extra.variance_reducing(features, free, known, weight, list(range(10)), 1, 1.0)
    assert free[then[0]] < 8  # enough is known of the others


def test_gradients_are_long_where_the_class_is_in_doubt() -> None:
    features = np.ones((2, 4))
    residual = extra.class_residuals(np.array([[0.5, 0.5], [0.99, 0.01]]))
    lengths = np.linalg.norm(extra.gradient_embeddings(features, residual[:, None]), axis=1)
    assert lengths[0] == pytest.approx(50 * lengths[1])


def test_a_mixture_does_not_depend_on_the_units_of_its_scores() -> None:
    one, other = np.array([1.0, 2.0, 3.0]), np.array([5.0, 1.0, 3.0])
    mixed = extra.mixture([one, other], [1, 1])
    assert extra.mixture([1000 * one, other - 7], [1, 1]) == pytest.approx(mixed)


def test_half_a_tilt_allots_by_the_root_of_the_share() -> None:
    strata_of = [0] * 90 + [1] * 10
    numbers = [
        sum(strata_of[n] for n in extra.tilted(strata_of, [], 8, rng(seed), 0.5))
        for seed in range(200)
    ]
    assert np.mean(numbers) == pytest.approx(8 / (1 + 9**0.5), abs=0.1)


def test_labels_that_are_known_count_for_their_stratum() -> None:
    strata_of = [0] * 20 + [1] * 20
    chosen = extra.tilted(strata_of, [0] * 10, 10, rng(), 0.0)
    assert Counter(strata_of[n] for n in chosen) == {1: 10}


def test_within_a_stratum_the_worthier_are_drawn_more_often() -> None:
    worth = np.array([1.0, 9.0])
    first = [extra.tilted([0, 0], [], 1, rng(s), 0.5, worth)[0] for s in range(1000)]
    assert np.mean(first) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(("tilt", "expected"), [(1.0, {0: 18, 1: 2}), (0.0, {0: 10, 1: 10})])
def test_tilt_moves_labels_to_rare_strata(tilt: float, expected: dict[int, int]) -> None:
    strata_of = [0] * 90 + [1] * 10
    chosen = extra.tilted(strata_of, [], 20, rng(), tilt)
    assert Counter(strata_of[n] for n in chosen) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: extra.class_entropy(np.array([[0.5, 0.9]])),
        lambda: extra.disagreement(np.array([[0.5, 0.5]])),
        lambda: extra.gradient_embeddings(np.ones((2, 3)), np.ones((3, 1))),
        lambda: extra.mixture([np.ones(2)], [1, 1]),
        lambda: extra.mixture([np.ones(2)], [0]),
        lambda: extra.tilted([0, 1], [], 1, rng(), tilt=2.0),
        lambda: extra.tilted([0, 1], [], 1, rng(), worth=np.zeros(2)),
    ],
)
def test_what_cannot_be_scored_or_chosen_is_refused(wrong: object) -> None:
    with pytest.raises(InputError):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize("count", [0, 3, 10, 99])
@pytest.mark.parametrize(
    "choose",
    [
        lambda n: extra.tilted([0] * 7 + [3] * 3, [0, 5], n, rng(), 0.5),
        lambda n: extra.k_means_plus_plus(LINE, n, rng()),
        lambda n: extra.k_means_plus_plus(np.zeros((10, 2)), n, rng()),
    ],
)
def test_nothing_is_chosen_twice_and_never_more_than_asked(choose: object, count: int) -> None:
    chosen = choose(count)  # type: ignore[operator]
    assert len(chosen) == len(set(chosen.tolist())) == min(count, 10)


@pytest.mark.parametrize("name", OTHERS)
def test_a_strategy_chooses_each_at_most_once(deal: Deal, name: str) -> None:
    free = np.arange(30, len(deal.choosable))
    chosen = OTHERS[name](view_of(deal, np.arange(30)), free, 20)
    assert len(set(chosen.tolist())) == len(chosen) == 20
    assert 0 <= chosen.min() <= chosen.max() < len(free)


@pytest.mark.parametrize("name", OTHERS)
def test_no_strategy_looks_at_labels_that_were_not_given(deal: Deal, name: str) -> None:
    labelled, free = np.arange(30), np.arange(30, len(deal.choosable))
    arrays = {
        field.name: np.concatenate([known[:30], known[::-1][30:]])
        for field in dataclasses.fields(deal.truth)
        if field.name != "strata"
        for known in [getattr(deal.truth, field.name)]
    }
    other = dataclasses.replace(deal.truth, **arrays)
    one, two = (
        OTHERS[name](view_of(deal, labelled, truth=truth), free, 20).tolist()
        for truth in (deal.truth, other)
    )
    assert one == two


def test_balanced_labels_hold_more_of_the_rare(deal: Deal) -> None:
    labelled, free = np.arange(40), np.arange(40, len(deal.choosable))
    rare = deal.truth.strata["sub-solid"][free]

    def found(strategy: str) -> float:
        choose = {**STRATEGIES, **OTHERS}[strategy]
        chosen = [choose(view_of(deal, labelled, seed), free, 20) for seed in range(20)]
        return float(np.mean([rare[one].sum() for one in chosen]))

    assert found("balanced") > 1.5 * found("stratified")


def test_the_simulation_plays_strategies_that_are_passed_in(pool: Pool) -> None:
    played = play(pool, {"badge": OTHERS["badge"]}, [5], Game((20, 40)))
    again = play(pool, {"badge": OTHERS["badge"]}, [5], Game((20, 40)))
    for figure, values in played["badge"][0].items():
        np.testing.assert_allclose(values, again["badge"][0][figure], rtol=1e-6)
