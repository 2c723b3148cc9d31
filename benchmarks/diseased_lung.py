"""Is a nodule still proposed where fluid or consolidation fills another part of the lungs?

    python benchmarks/diseased_lung.py --ct NAME=FILE [--ct ...] --marks marks.csv [--json FILE]

Part of the lungs of a real CT is filled with soft tissue and noise: an effusion in their posterior
third, a consolidation of the right lower quarter, one lung or the other gone. Told is the rank of
every marked nodule among the places that the search proposes, before the model judges them, and
how much lung the search still sees. A nodule inside what is filled is "buried".
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from froc import Mark, read_marks
from resmtnet import CTVolume
from resmtnet.inference.candidates import find_candidates
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import closed_lungs
from resmtnet.inference.search import PROPOSED

TISSUE_HU, NOISE_HU = 10.0, 20.0
GRID_MM = 3.0
Points = NDArray[np.float64]
Filled = Callable[[Points], NDArray[np.bool_]]
"""Which points (n, 3), as shares of the lungs' extent along L, P and S, are filled."""

DISEASES: Mapping[str, Filled] = {
    "none": lambda p: np.zeros(len(p), bool),
    "effusion in the posterior third": lambda p: p[:, 1] > 2 / 3,
    "consolidation of the right lower quarter": lambda p: (p[:, 0] < 0.5) & (p[:, 2] < 0.4),
    "right lung gone": lambda p: p[:, 0] < 0.5,
    "left lung gone": lambda p: p[:, 0] > 0.5,
}


class Lungs:
    """The lungs of a CT and their extent in the patient."""

    def __init__(self, ct: CTVolume) -> None:
        grid = SearchGrid.of(ct, GRID_MM)
        self.inside, self.geometry = closed_lungs(grid), grid.geometry
        ends = grid.geometry.ijk_to_lps(np.argwhere(self.inside)[:, ::-1])
        self.low, self.high = ends.min(0), ends.max(0)

    def share(self, points_lps_mm: Points) -> Points:
        """Return points as shares of the lungs' extent."""
        return np.asarray((points_lps_mm - self.low) / (self.high - self.low))

    def hold(self, points_lps_mm: Points) -> NDArray[np.bool_]:
        """Return which points lie in the lungs."""
        ijk = np.rint(self.geometry.lps_to_ijk(points_lps_mm)).astype(int)
        size = np.asarray(self.geometry.size_ijk)
        there = np.all((ijk >= 0) & (ijk < size), axis=1)
        i, j, k = ijk.clip(0, size - 1).T
        return np.asarray(there & self.inside[k, j, i])


def diseased(ct: CTVolume, lungs: Lungs, filled: Filled, rng: np.random.Generator) -> CTVolume:
    """Return a CT with part of its lungs filled."""
    hu, grid = ct.array().copy(), ct.geometry
    rows, columns = np.indices(hu.shape[1:])
    for k, plane in enumerate(hu):
        ijk = np.column_stack([columns.ravel(), rows.ravel(), np.full(rows.size, k)])
        points = grid.ijk_to_lps(ijk)
        ill = (lungs.hold(points) & filled(lungs.share(points))).reshape(plane.shape)
        plane[ill] = np.maximum(plane[ill], rng.normal(TISSUE_HU, NOISE_HU, ill.sum()))
    return CTVolume.from_array(hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction)


def ranks(
    ct: CTVolume, marks: list[Mark], lungs: Lungs, filled: Filled
) -> dict[str, int | str | None]:
    """Return the rank of every nodule, None where it is not proposed."""
    found = find_candidates(ct, maximum=PROPOSED)
    told: dict[str, int | str | None] = {}
    for mark in (mark for mark in marks if mark.is_nodule):
        centre = mark.centre_lps_mm
        hits = [
            n
            for n, one in enumerate(found, start=1)
            if math.dist(one.centre_lps_mm, centre) <= mark.radius_mm
        ]
        buried = bool(filled(lungs.share(np.array([centre])))[0])
        name = f"{2 * mark.radius_mm:.1f} mm, {mark.readers} readers"
        told[name] = "buried" if buried else (hits[0] if hits else None)
    return told


def main() -> None:
    """Fill parts of every CT and print the ranks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ct", action="append", required=True, help="NAME=FILE")
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    marks, rng = read_marks(given.marks), np.random.default_rng(0)
    document: dict[str, Any] = {}
    for name, path in (text.split("=", 1) for text in given.ct):
        ct = CTVolume.open(path)
        lungs = Lungs(ct)
        for disease, filled in DISEASES.items():
            ill = diseased(ct, lungs, filled, rng)
            seen = Lungs(ill)
            volume_ml = seen.inside.sum() * math.prod(seen.geometry.spacing_mm) / 1000
            document.setdefault(name, {})[disease] = {
                "lung_ml": round(volume_ml),
                "ranks": ranks(ill, marks[name], lungs, filled),
            }
            print(name, disease, document[name][disease], flush=True)
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
