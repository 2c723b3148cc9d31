"""Agreement of each reader with the others, as rows of truth and rating for the same metrics.

Readers are anonymous and cannot be linked across scans, so that every reading counts alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import permutations

from resmtnet.characteristics import (
    CLASS_SHARES,
    TEXTURE_CLASS,
    class_of_rating,
    texture_class_of,
)
from resmtnet.evaluation.records import Case, size_bin

Rows = Sequence[tuple[float, float]]
"""Truth and answer."""
OfReaders = Callable[[Case], Rows]


def one_against_mean(values: Sequence[float]) -> Rows:
    """Return each reader's value beside the mean of the others; nothing for a single reader.

    >>> one_against_mean([1.0, 2.0, 4.0])
    [(3.0, 1.0), (2.5, 2.0), (1.5, 4.0)]
    """
    if len(values) < 2:
        return []
    total, others = sum(values), len(values) - 1
    return [((total - value) / others, value) for value in values]


def one_against_median_class(case: Case) -> Rows:
    """Return each reader's malignancy beside the class of the others' median, where it is not 3.

    >>> one_against_median_class(Case("a", "p", (4, 5, 2), 10.0, 12.0, 5.0, 1.0))
    [(1.0, 4), (1.0, 2)]
    """
    rows = []
    for n, rating in enumerate(case.malignancy):
        others = case.malignancy[:n] + case.malignancy[n + 1 :]
        told = class_of_rating(statistics.median(others)) if others else "indeterminate"
        if told != "indeterminate":
            rows.append((CLASS_SHARES[told], rating))
    return rows


def texture_class_rows(case: Case) -> Rows:
    """Return each reader's texture class beside that of the mean of the others, as numbers."""
    return [
        (texture_number(texture_class_of(mean)), texture_number(texture_class_of(rating)))
        for mean, rating in one_against_mean(case.texture_ratings)
    ]


def size_bin_rows(case: Case) -> Rows:
    """Return the Lung-RADS size classes of every ordered pair of readers."""
    bins = [float(size_bin(mm)) for mm in case.reader_mean_axes_mm]
    return list(permutations(bins, 2))


def dice_row(case: Case) -> Rows:
    """Return the mean Dice of the pairs of readers."""
    return [] if case.reader_dice is None else [(0.0, case.reader_dice)]


def texture_number(name: str) -> float:
    """Return the number of a texture class.

    >>> texture_number("solid")
    2.0
    """
    return float(TEXTURE_CLASS.levels.index(name))
