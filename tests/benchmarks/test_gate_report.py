"""What the tables of the gate's experiment count, and how."""

from __future__ import annotations

from typing import Any

import pytest

from gate_report import limits, of_runs, report

FIGURES = ("score_bias", "score_mae", "size_bias", "size_error", "auc", "subsolid_texture")


def row(scenario: str, seed: int, outcome: str, **more: Any) -> dict[str, Any]:
    about = {"scenario": scenario, "patients": 25, "seed": seed, "checks_only": False}
    return {**about, "outcome": outcome, "why": [], "nodules": 70, **more}


def others(before: float, after: float) -> dict[str, Any]:
    parts = {"before": dict.fromkeys(FIGURES, before), "after": dict.fromkeys(FIGURES, after)}
    return {**parts, "usual_score_mae": 0.1}


def line_of(name: str, text: str, holding: str = "") -> str:
    return next(x for x in text.splitlines() if x.startswith(f"| {name} |") and holding in x)


def published_of(name: str, text: str) -> str:
    return line_of(name, text.partition("published of the accepted")[2])


def test_a_run_in_full_stands_above_its_checks() -> None:
    checked = row("severe", 0, "accepted", checks_only=True)
    assert "| 1 of 1" in published_of("severe", report([row("severe", 0, "weights"), checked]))


def test_what_was_only_checked_is_not_counted_as_published_or_not() -> None:
    rows = [row("severe", 0, "weights"), row("severe", 1, "accepted", checks_only=True)]
    assert "| 1 of 1" in published_of("severe", report(rows))
    assert "| 2 of 2" in line_of("severe", report(rows))


def test_refused_readings_are_counted_as_not_accepted_alone() -> None:
    rows = [row("severe", 0, "weights"), row("severe", 1, "refused", checks_only=True)]
    assert "| 1 of 2" in line_of("severe", report(rows))
    assert "| 1 of 1" in published_of("severe", report(rows))


def test_wrong_readings_that_pass_the_checks_are_not_kept() -> None:
    name = "a quarter of the labels flipped"
    rows = [row(name, 0, "refused"), row(name, 1, "accepted", checks_only=True)]
    assert "1 of 2" in line_of(name, report(rows))


def test_a_bias_is_that_of_each_version_and_not_of_their_mean() -> None:
    rows = [
        row("severe", 0, "weights", others=others(0.4, 0.2)),
        row("severe", 1, "weights", others=others(0.4, -0.2)),
    ]
    cells = line_of("severe", report(rows), "70").split(" | ")
    assert cells[3].startswith("0.400 -> 0.200")
    assert cells[4].startswith("0.400 -> 0.000")


def test_the_excess_is_what_a_site_without_the_habit_has_not() -> None:
    rows = [row("severe", 0, "weights", others=others(0.4, 0.2))]
    assert line_of("severe", report(rows), "70").split(" | ")[5] == "0.300 -> 0.100"


def test_losses_after_many_publishes_have_a_mean_with_an_interval() -> None:
    rows = [
        row("right corrections, chain", seed, "chain", outcomes={"weights": 20, "worse": 1})
        | {"reference": {"AUC": 0.001}, "untouched": {"AUC": loss}}
        for seed, loss in enumerate((0.001, 0.003))
    ]
    text = report(rows)
    assert "| 0 | 20 of 21 | untouched | +0.0010 |" in text
    assert "| mean |  | untouched | +0.0020 ± 0.0127 |" in text


def test_a_stricter_limit_accepts_fewer() -> None:
    values = (-4.0, -2.5, 1.0)
    rows = [
        row("severe", n, "accepted", checks=[["log likelihood, if 25% ...", value]])
        for n, value in enumerate(values)
    ]
    assert line_of("severe", limits(rows, [-2.0, -3.0])) == "| severe | 3 | 2 | 1 |"


@pytest.mark.parametrize(("count", "told"), [(0, "0 of 10 [0, 31]%"), (10, "10 of 10 [69, 100]%")])
def test_none_and_all_have_an_interval(count: int, told: str) -> None:
    assert of_runs(count, 10) == told
