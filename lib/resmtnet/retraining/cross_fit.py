"""Predictions for every nodule of a site by a version that learnt nothing from its patient.

The patients are dealt into a few folds; a version made from all but one fold answers for that one.
So every reading both trains and judges, and a site needs no patients who never train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.samples import Sample

FOLDS = 3
"""Each costs another training."""


def cross_fitted(
    make: Callable[[Sequence[Sample]], FineTuned],
    samples: Sequence[Sample],
    nodules: ComparedNodules,
    folds: int = FOLDS,
) -> Predictions:
    """Return what versions made from the other patients predict for each nodule.

    Args:
        make: makes a version from samples.
        samples: of the site.
        nodules: what the readers say of them.
        folds: number of versions.
    """
    place = fold_of_each([s.patient_id for s in samples], folds)
    parts = []
    for fold in range(folds):
        index = np.flatnonzero(place == fold)
        if not len(index) or len(index) == len(samples):
            continue
        version = make([s for s, at in zip(samples, place, strict=True) if at != fold])
        held = version.answer_all([samples[n].held for n in index])
        said = Predictions.of(nodules.rows(index), held, version.calibration)
        parts.append((index, said))
    return Predictions.joined(len(samples), parts)


def fold_of_each(patients: Sequence[str], folds: int) -> NDArray[np.intp]:
    """Return the fold of each nodule: patients in the order of their hash, dealt in turn.

    >>> len(set(fold_of_each(["A", "B", "C", "A"], 3)))
    3
    """
    order = sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    place = {patient: n % folds for n, patient in enumerate(order)}
    return np.array([place[patient] for patient in patients], np.intp)
