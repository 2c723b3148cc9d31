"""Training targets of each task, from the readers' ratings and sizes, with their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.characteristics import (
    CLASS,
    LIDC_RATINGS,
    NODULE,
    SIZES,
    TEXTURE_CLASS,
    texture_class_of,
)
from resmtnet.data.archive import Nodule
from resmtnet.data.consensus import class_weight, distribution, malignant_share

FULL_WEIGHT_READERS = 4
SOLID = "solid"


def targets_of(
    nodules: Sequence[Nodule], subsolid_factor: float = 1.0, *, with_negatives: bool = False
) -> dict[str, Tensor]:
    """Return targets and weights of nodules by task, as network.losses takes them.

    Ratings become the readers' distribution and weigh by the number of readers; a size carries
    the variance of its logarithm between readers; what a nodule lacks has weight 0, its mask
    ("mask_weight") too.

    Args:
        nodules: of an archive.
        subsolid_factor: how much more the texture class of a nodule that is not solid counts.
        with_negatives: places without a nodule are trained on as well, so that "nodule or not" is
            a question; from nodules alone a network learns to answer yes to everything.
    """
    columns: dict[str, list[NDArray[np.float32] | float]] = {}

    def add(name: str, target: NDArray[np.float32] | float, weight: float) -> None:
        columns.setdefault(name, []).append(target)
        columns.setdefault(f"{name}_weight", []).append(weight)

    for nodule in nodules:
        columns.setdefault("mask_weight", []).append(float(nodule.mask_readers != 0))
        readers = [r for r in nodule.malignancy if r > 0]
        share = malignant_share(readers) if readers else 0.5
        pair = np.array([1 - share, share], np.float32)
        add(CLASS.name, pair, class_weight(readers) if readers else 0.0)
        present = float(nodule.nodule_label != 0)
        add(NODULE.name, np.array([1 - present, present], np.float32), float(with_negatives))
        texture = [r for r in nodule.ratings.get("texture", ()) if r > 0]
        levels = TEXTURE_CLASS.levels
        name = texture_class_of(float(np.mean(texture))) if texture else levels[0]
        factor = 1.0 if name == SOLID else subsolid_factor
        one = np.eye(3, dtype=np.float32)[levels.index(name)]
        add(TEXTURE_CLASS.name, one, factor if texture else 0.0)
        for task in LIDC_RATINGS:
            count = len(task.levels)
            # the LIDC annotations hold a few values outside their own scale
            given = [r for r in nodule.ratings.get(task.name, ()) if 1 <= r <= count]
            weight = min(len(given), FULL_WEIGHT_READERS) / FULL_WEIGHT_READERS
            add(task.name, distribution(given or [1], count), weight)
        for task in SIZES:
            size = float(getattr(nodule, task.name))
            known = bool(np.isfinite(size))
            add(task.name, float(np.log(size)) if known else 0.0, float(known))
            columns.setdefault(f"{task.name}_variance", []).append(_variance(nodule, task.name))
    return {name: torch.tensor(np.array(values, np.float32)) for name, values in columns.items()}


def _variance(nodule: Nodule, name: str) -> float:
    """Return the readers' variance of a log size, 0 where it is unknown."""
    if name == "equivalent_diameter_mm":
        logs = np.log(nodule.reader_volumes_mm3) / 3
    else:
        logs = np.log(nodule.reader_long_axes_mm)
    return float(np.var(logs, ddof=1)) if len(logs) > 1 else 0.0
