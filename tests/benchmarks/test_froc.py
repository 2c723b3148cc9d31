"""FROC: what is a hit, what counts neither way, a threshold chosen on the other CTs."""

import math
from pathlib import Path

import pytest

from froc import (
    Mark,
    figures,
    judge,
    models_of,
    operating_point,
    ranks,
    sensitivity_at,
    shown_without_marks,
    threshold_at,
)

NODULE = Mark((0.0, 0.0, 0.0), 4.0, 3, is_nodule=True)
UNSURE = Mark((50.0, 0.0, 0.0), 4.0, 1, is_nodule=True)
NONE = Mark((0.0, 80.0, 0.0), 5.0, 1, is_nodule=False)


def at(x: float, score: float, y: float = 0.0) -> tuple[tuple[float, float, float], float]:
    return (x, y, 0.0), score


CANDIDATES = [at(3, 0.5), at(2, 0.4), at(5, 0.9), at(51, 0.8), at(1, 0.7, 79.0), at(99, 0.1)]


def test_a_hit_lies_within_the_radius_and_only_the_first_counts():
    judged = judge(CANDIDATES, [NODULE], [UNSURE, NONE])
    assert [(one.score, one.hit) for one in judged] == [(0.9, None), (0.5, 0), (0.1, None)]


def test_a_nodule_needs_three_readers_and_six_millimetres():
    assert NODULE.well_read
    assert not UNSURE.well_read
    assert not Mark((0.0, 0.0, 0.0), 2.9, 4, is_nodule=True).well_read
    assert not NONE.well_read


def test_sensitivity_rises_with_the_false_positives_allowed():
    judged = [judge(CANDIDATES, [NODULE], [UNSURE, NONE])]
    assert [sensitivity_at(judged, 1, rate) for rate in (0.5, 1, math.inf)] == [0, 1, 1]
    assert sensitivity_at([*judged, []], 2, 0.5) == 0.5


def test_threshold_allows_that_many_false_positives():
    judged = [judge(CANDIDATES, [NODULE], [UNSURE, NONE])]
    limit = threshold_at(judged, 1)
    shown = [one for one in judged[0] if one.score >= limit]
    assert sum(one.hit is None for one in shown) == 1
    assert threshold_at(judged, 9) == -math.inf


def test_operating_point_is_chosen_on_the_other_cts():
    one = judge(CANDIDATES, [NODULE], [UNSURE, NONE])
    strict = judge([at(9, 0.6), at(9, 0.55), at(9, 0.52), at(9, 0.51)], [], [])
    chosen = operating_point({"one": one, "strict": strict}, "one", 1)
    assert chosen["threshold"] == pytest.approx(0.52)
    assert (chosen["found"], chosen["false_positives"]) == (0, 1)


def test_figures_tell_both_groups_of_nodules():
    told = figures({"one": CANDIDATES}, {"one": [NODULE, UNSURE, NONE]})
    assert told["well read"]["nodules"] == 1
    assert told["any reader"]["nodules"] == 2
    assert told["any reader"]["recall_of_all_candidates"] == 1


def test_ranks_are_told_nodule_by_nodule():
    found = ranks(CANDIDATES[:3], [NODULE, UNSURE, NONE])
    assert [(mark.readers, rank) for mark, rank in found] == [(3, 2), (1, None)]


def test_each_ct_may_have_a_model_of_its_own():
    assert models_of(["all", "two=other"], ["one", "two"]) == {
        "one": Path("all"),
        "two": Path("other"),
    }
    assert models_of([], ["one"]) == {"one": None}
    with pytest.raises(SystemExit, match="three"):
        models_of(["three=x"], ["one"])


def test_cts_without_marks_are_counted_at_the_threshold_of_the_others():
    ranked = {"one": CANDIDATES, "none": [at(0, 0.95), at(30, 0.05)]}
    marks = {"one": [NODULE, UNSURE, NONE], "none": []}
    assert shown_without_marks(ranked, marks)["shown"] == {"none": 2}
    strict = [at(n, 0.99 - n / 1000, 300.0) for n in range(4)]
    assert shown_without_marks({"one": strict, "none": ranked["none"]}, marks)["shown"] == {
        "none": 0
    }
    assert figures(ranked, marks)["well read"]["leave_one_ct_out"].keys() == {"one"}
