"""The nodules with the greatest errors, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest

from resmtnet.evaluation.populations import ALL, PROTOCOL, RATED, Population
from resmtnet.evaluation.records import Answered, Case, Prediction
from resmtnet.findings import finite
from resmtnet.types import Json

WORST = 20
"""Nodules in each list."""


def worst_cases(answered: Sequence[Answered], count: int = WORST) -> dict[str, list[Json]]:
    """Return the nodules with the greatest errors, the worst first.

    Args:
        answered: nodules with the model's answers.
        count: length of each list.

    Returns:
        By "class" (probability, protocol P), "score" and "diameter" (mm).
    """

    def listed(
        population: Population,
        truth: Callable[[Case], float | None],
        answer: Callable[[Prediction], float | None],
    ) -> list[Json]:
        rows = []
        for case, prediction in answered:
            readers, given = finite(truth(case)), finite(answer(prediction))
            if population.holds(case) and readers is not None and given is not None:
                rows.append(_row(case, readers, given))
        return sorted(rows, key=lambda row: -abs(row["error"]))[:count]

    return {
        "class": listed(PROTOCOL, lambda c: float(c.malignant), lambda p: p.probability_malignant),
        "score": listed(RATED, lambda c: c.score, lambda p: p.score),
        "diameter": listed(
            ALL, lambda c: c.equivalent_diameter_mm, lambda p: p.equivalent_diameter_mm
        ),
    }


def worst_ids(worst: dict[str, list[Json]], count: int = WORST) -> list[str]:
    """Return the worst nodules over all lists: the first of each, then the second of each, ...

    >>> worst_ids({"class": [{"id": "a"}, {"id": "b"}], "score": [{"id": "a"}, {"id": "c"}]}, 2)
    ['a', 'b']
    """
    turns = zip_longest(*worst.values())
    ids = [row["id"] for turn in turns for row in turn if row is not None]
    return list(dict.fromkeys(ids))[:count]


def _row(case: Case, readers: float, given: float) -> Json:
    return {
        "id": case.id,
        "malignancy": list(case.malignancy),
        "equivalent_diameter_mm": finite(case.equivalent_diameter_mm),
        "texture": case.texture_class,
        "slice_thickness_mm": finite(case.slice_thickness_mm),
        "readers": readers,
        "model": given,
        "error": finite(given - readers),
    }
