"""From several readers to one target: named rules for ratings and masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def distribution(ratings: Sequence[int], levels: int) -> NDArray[np.float32]:
    """Return the share of readers at each level; ratings count from 1.

    >>> distribution([5, 5, 5, 4], 5).tolist()
    [0.0, 0.0, 0.0, 0.25, 0.75]
    """
    counts = np.bincount(np.asarray(ratings) - 1, minlength=levels)
    return np.asarray(counts / counts.sum(), np.float32)


def malignant_share(ratings: Sequence[int]) -> float:
    """Return the class target: 1 for a median malignancy above 3, 0 below, 0.5 at 3.

    >>> malignant_share([5, 3, 4]), malignant_share([2, 4])
    (1.0, 0.5)
    """
    median = float(np.median(ratings))
    return 0.5 if median == 3 else float(median > 3)


def class_weight(ratings: Sequence[int], minimum_readers: int = 3) -> float:
    """Return how much the class target counts: less where readers are few or undecided.

    >>> class_weight([5, 5, 4]), class_weight([5]), class_weight([3, 3, 3])
    (1.0, 0.5, 0.3)
    """
    if float(np.median(ratings)) == 3:
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
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x0 + (y[:, None] - y0) / (y1 - y0) * (x1 - x0)
    left = crosses[:, None, :] & (at[:, None, :] > x[None, :, None])
    inside = (left.sum(2) % 2).astype(np.float32)  # [points y, points x]
    rows, columns = high[1] - low[1], high[0] - low[0]
    means = inside.reshape(rows, supersample, columns, supersample).mean((1, 3))
    coverage[low[1] : high[1], low[0] : high[0]] = means
    return coverage
