"""Scores and choices of active learning: pure functions of small arrays."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from resmtnet.active import scores, selection
from resmtnet.active.strata import strata, stratum_name
from resmtnet.errors import InputError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- scores ------------------------------------------------------------------------------------


def test_noise_that_no_label_can_remove_gives_no_information() -> None:
    clear = scores.expected_information(np.array([[1.0]]), np.array([0.1]))
    noisy = scores.expected_information(np.array([[1.0]]), np.array([100.0]))
    assert clear[0] > 1
    assert noisy[0] < 0.01


def test_information_about_class_size_and_score_adds_up() -> None:
    parts = np.array([[0.4, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.2], [0.4, 0.7, 0.2]])
    found = scores.expected_information(parts, np.ones(3))
    assert found[3] == pytest.approx(found[:3].sum())


def test_each_part_of_the_joint_doubt_counts() -> None:
    none = [np.zeros(1)] * 4
    for part in range(4):
        one = [np.full(1, 0.4) if n == part else x for n, x in enumerate(none)]
        assert scores.joint_doubt(*one)[0] > scores.joint_doubt(*none)[0]


def test_an_unknown_part_of_the_joint_doubt_is_left_out() -> None:
    class_only = [np.array([0.5]), *[np.array([np.nan])] * 3]
    assert scores.joint_doubt(*class_only)[0] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: scores.expected_information(np.array([[-1.0]]), np.ones(1)),
        lambda: scores.expected_information(np.array([[1.0]]), np.zeros(1)),
        lambda: selection.best(np.ones(3), -1),
        lambda: selection.k_centre(np.ones(3), np.ones(3), 1),
        lambda: selection.diverse(np.ones(1), np.ones((1, 1)), np.ones((0, 1)), "a", 1, reach=0),
    ],
)
def test_what_cannot_be_scored_or_chosen_is_refused(wrong: object) -> None:
    with pytest.raises(InputError):
        wrong()  # type: ignore[operator]


# -- selection ---------------------------------------------------------------------------------

LINE = np.linspace(0, 9, 10)[:, None]


@pytest.mark.parametrize("count", [0, 3, 10, 99])
@pytest.mark.parametrize(
    "choose",
    [
        lambda n: selection.best(np.arange(10.0), n),
        lambda n: selection.at_random(10, n, rng()),
        lambda n: selection.proportional([0] * 7 + [3] * 3, n, rng()),
        lambda n: selection.k_centre(LINE, LINE[:2], n),
        lambda n: selection.diverse(np.ones(10), LINE, LINE[:0], "aabbccddee", n, reach=1.0),
    ],
)
def test_everyone_is_chosen_once_at_most_and_never_more_than_asked(
    choose: object, count: int
) -> None:
    chosen = choose(count)  # type: ignore[operator]
    assert len(chosen) == min(count, 10)
    assert len(set(chosen.tolist())) == len(chosen)
    assert set(chosen.tolist()) <= set(range(10))


def test_stratified_random_gives_every_stratum_its_share() -> None:
    strata_of = [0] * 60 + [1] * 30 + [2] * 10
    for seed in range(20):
        counts = Counter(strata_of[n] for n in selection.proportional(strata_of, 20, rng(seed)))
        assert counts == {0: 12, 1: 6, 2: 2}


def test_stratified_random_differs_between_seeds_within_a_stratum() -> None:
    drawn = {tuple(sorted(selection.proportional([0] * 50, 5, rng(s)).tolist())) for s in range(9)}
    assert len(drawn) > 5


def test_core_set_covers_what_is_far_from_the_known() -> None:
    chosen = selection.k_centre(LINE, LINE[:1], 2)
    assert chosen.tolist() == [9, 4]


def test_diverse_takes_another_patient_before_more_of_the_same() -> None:
    value = np.array([1.0, 0.99, 0.6])
    nothing = np.zeros((0, 1))
    points = np.array([[0.0], [50.0], [100.0]])

    def order(factor: float) -> list[int]:
        chosen = selection.diverse(value, points, nothing, "aab", 3, reach=1.0, group_factor=factor)
        return chosen.tolist()

    assert order(0.5) == [0, 2, 1]
    assert order(1.0) == [0, 1, 2]


def test_diverse_passes_over_what_is_known_already() -> None:
    chosen = selection.diverse(
        np.array([1.0, 0.2]), np.array([[0.0], [9.0]]), np.array([[0.1]]), "ab", 1, reach=1.0
    )
    assert chosen.tolist() == [1]


# -- strata ------------------------------------------------------------------------------------


def test_strata_part_sizes_and_textures() -> None:
    mm, texture = np.array([5.0, 7.0, 10.0, 20.0]), np.array([1.0, 3.0, 5.0, 5.0])
    names = [stratum_name(n) for n in strata(mm, texture)]
    assert names == [
        "non-solid, below 6 mm",
        "part-solid, 6 to 8 mm",
        "solid, 8 to 15 mm",
        "solid, from 15 mm",
    ]


def test_what_was_not_measured_has_a_stratum_too() -> None:
    assert strata(np.array([np.nan]), np.array([np.nan])).tolist() == [2]
