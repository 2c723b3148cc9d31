"""Writes small synthetic studies for the demo: one patient, one lung and four nodules each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resmtnet.cli.demo.answers import voxels
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_nifti
from resmtnet.types import Point

PATIENTS = tuple(f"patient-{n}" for n in range(1, 10))
SHAPE_KJI = (56, 88, 88)
CENTRE: Point = (-75.0, 0.0, 20.0)
"""Of the volume: in the right lung."""
SMALL = NoduleSpec(5.5, "solid")
SPICULATED = NoduleSpec(12.0, "solid", spiculation=0.9, lobulation=0.4)
"""The shipped model calls most small ones benign and the spiculated ones malignant."""
PLACES: Sequence[tuple[NoduleSpec, Point]] = (
    (SMALL, (-92.0, -17.0, 7.0)),
    (SPICULATED, (-58.0, 17.0, 33.0)),
    (SMALL, (-58.0, -18.0, 8.0)),
    (SPICULATED, (-91.0, 17.0, 33.0)),
)
SPREAD = 0.15
"""Greatest relative difference of a diameter between patients."""


@dataclass(frozen=True)
class DemoStudy:
    """A study and the points that are clicked in it."""

    image_id: str
    ct: CTVolume
    points_lps_mm: tuple[Point, ...]

    @property
    def points_ijk(self) -> list[list[int]]:
        """The same points as a viewer sends them."""
        return voxels(self.ct, self.points_lps_mm)


def write_patients(folder: Path, names: Sequence[str] = PATIENTS) -> list[DemoStudy]:
    """Write a CT of each patient; the same names give the same voxels.

    Args:
        folder: of the studies.
        names: of the patients, and of their files.
    """
    cases = []
    for seed, name in enumerate(names, start=1):
        factors = np.random.default_rng(seed).uniform(1 - SPREAD, 1 + SPREAD, len(PLACES))
        nodules = [
            replace(
                spec, equivalent_diameter_mm=factor * spec.equivalent_diameter_mm, centre_lps_mm=at
            )
            for (spec, at), factor in zip(PLACES, factors, strict=True)
        ]
        phantom = make_phantom(seed, SHAPE_KJI, nodules=nodules, centre_lps_mm=CENTRE)
        path = write_nifti(phantom, folder / f"{name}.nii.gz")
        points = tuple(nodule.centre_lps_mm for nodule in phantom.nodules)
        cases.append(DemoStudy(name, CTVolume.open(path), points))
    return cases
