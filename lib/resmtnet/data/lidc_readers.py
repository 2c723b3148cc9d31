"""Groups the annotations of a scan by nodule, and lists the ratings of their readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.data.consensus import ratings_in_scale, trusted_ratings
from resmtnet.data.contours import Annotation, ReaderSizes

MOST_READERS = 4
_SHRINK = 0.9
_LEAST_TOLERANCE_MM = 0.1


def reader_ratings(
    readers: Sequence[Annotation], initial_release: bool | None
) -> dict[str, tuple[int, ...]]:
    """Return every rating of a nodule's readers, in their order.

    Args:
        readers: of one nodule.
        initial_release: of their scan; see consensus.trusted_ratings.

    Returns:
        By characteristic; 0 where a rating is missing, outside its scale or not trusted.
    """
    stored = {
        task.name: tuple(reader.ratings.get(task.name) for reader in readers)
        for task in LIDC_RATINGS
    }
    return trusted_ratings(ratings_in_scale(stored), initial_release)


def said_by_readers(
    readers: Sequence[Annotation], sizes: ReaderSizes, initial_release: bool | None
) -> dict[str, Any]:
    """Return the columns of a Nodule that hold what each reader said, in the readers' order.

    Args:
        readers: of one nodule.
        sizes: of their contours.
        initial_release: of their scan; see consensus.trusted_ratings.
    """
    return {
        "ratings": reader_ratings(readers, initial_release),
        "reader_volumes_mm3": sizes.volumes_mm3,
        "reader_long_axes_mm": sizes.long_axes_mm,
        "reader_short_axes_mm": sizes.short_axes_mm,
        "reader_dice": sizes.dice,
    }


def nodules_of(
    annotations: Sequence[Annotation], pixel_mm: float, tolerance_mm: float
) -> list[list[Annotation]]:
    """Group the annotations of one scan by the nodule they mark, by the rule of pylidc.

    Two annotations belong together if any two vertices of their contours are within a tolerance,
    and so do all that are linked that way. While a group has more than four annotations (LIDC has
    four readers) the tolerance shrinks by a tenth, for the whole scan, down to 0.1 mm.

    Args:
        annotations: of one scan, each with contours.
        pixel_mm: in-plane spacing.
        tolerance_mm: first tolerance; pylidc takes the slice thickness.

    Returns:
        The groups, in the order of their first annotation.

    References:
        Hancock and Magnan, J Med Imaging 3 (2016): pylidc, `Scan.cluster_annotations`.
    """
    if not annotations:
        return []
    tolerance_mm = max(tolerance_mm, _LEAST_TOLERANCE_MM)
    distance = _least_distances([a.points_mm(pixel_mm) for a in annotations], tolerance_mm)
    while True:
        count, group = connected_components(distance <= tolerance_mm, directed=False)
        sizes = np.bincount(group, minlength=count)
        tolerance_mm *= _SHRINK
        if (sizes <= MOST_READERS).all() or tolerance_mm < _LEAST_TOLERANCE_MM:
            break
    return [[a for a, g in zip(annotations, group, strict=True) if g == n] for n in range(count)]


def _least_distances(
    points: Sequence[NDArray[np.float64]], beyond_mm: float
) -> NDArray[np.float64]:
    """Return [n, n]: the least distance of two vertices of each pair of annotations, mm.

    Pairs whose boxes are further apart than `beyond_mm` have the distance of their boxes.
    """
    low = np.stack([part.min(0) for part in points])
    high = np.stack([part.max(0) for part in points])
    gap = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(0)
    distance = np.sqrt((gap**2).sum(2))
    for one, other in np.argwhere(np.triu(distance <= beyond_mm, 1)):
        nearest, _ = cKDTree(points[one]).query(points[other])
        distance[one, other] = distance[other, one] = nearest.min()
    return np.asarray(distance)
