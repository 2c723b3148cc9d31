"""Readings of a phantom, each of a patient of its own, and options to train on them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from resmtnet.ct.phantom import Phantom
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.samples import is_held_out

IMAGE = "phantom"
EAGER = {"min_readings": 5, "min_patients": 3, "min_patients_of_weights": 3, "epochs": 3}
"""Options with which six readings are enough."""
LENIENT = {"auc_margin": 0.05, "score_margin": 0.2, "size_margin": 0.1}
"""For a model of a few random weights."""


def points_lps_mm(phantom: Phantom, count: int) -> list[tuple[float, float, float]]:
    """Points around the nodule of the phantom, each more than a click apart."""
    x, y, z = phantom.nodules[0].centre_lps_mm
    return [(x - 14 + 9 * (n % 4), y - 14 + 9 * (n // 4), z) for n in range(count)]


def patients(count: int) -> list[str]:
    """Patients of whom the first never trains, and all others do."""
    names = [f"S{n}" for n in range(1000)]
    out = [name for name in names if is_held_out(name)]
    return [*out[:1], *(name for name in names if name not in out)][:count]


def read(store: ReadingStore, points: Sequence[Any], whose: Sequence[str] | None = None) -> None:
    """One reader rates what is at each point, each in an image of a patient of its own."""
    studies = store.path.parents[1]
    names = whose or patients(len(points))
    for n, (point, patient) in enumerate(zip(points, names, strict=True)):
        shutil.copy(studies / f"{IMAGE}.nii.gz", studies / f"of-{patient}.nii.gz")
        rating = (1, 5, 2, 4)[n % 4]
        store.add(Reading(f"of-{patient}", "A", point, malignancy=rating, study_patient=patient))
