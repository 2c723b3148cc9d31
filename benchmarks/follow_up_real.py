"""A real CT against itself, deformed by a known smooth field: are its nodules found and measured?

    python benchmarks/follow_up_real.py CT MARKS.csv PATIENT --out build/follow-up

MARKS.csv has ct, mark ("nodule"), x_lps_mm, y_lps_mm, z_lps_mm and readers: how many have marked
it. The field deforms nodules too: their true volume changes by what its Jacobian says.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom.follow_up import SmoothField
from resmtnet.followup.compare import compare
from resmtnet.followup.picture import save_picture
from resmtnet.followup.visit import Visit

FEWEST_READERS = 2
NOISE_HU = 15.0
"""Added to the deformed CT, so that its noise is not that of the first."""


class Field:
    """A smooth field around the middle of a CT."""

    def __init__(self, ct: CTVolume, largest_mm: float, seed: int) -> None:
        self._middle = ct.geometry.ijk_to_lps((np.asarray(ct.geometry.size_ijk) - 1) / 2)
        self._field = SmoothField(largest_mm, np.random.default_rng(seed))

    def to_prior(self, lps_mm: Any) -> Any:
        return self._field.to_prior(np.asarray(lps_mm) - self._middle) + self._middle

    def to_current(self, lps_mm: Any) -> Any:
        return self._field.to_current(np.asarray(lps_mm) - self._middle) + self._middle

    def volume_factor(self, lps_mm: Any) -> float:
        """Return by how much a small volume at a place of the prior is larger in the current."""
        at, step = self.to_current(lps_mm), 1.0
        columns = [
            (self.to_prior(at + step * e) - self.to_prior(at - step * e)) / (2 * step)
            for e in np.eye(3)
        ]
        return float(1 / np.linalg.det(np.stack(columns, 1)))


def deformed(ct: CTVolume, field: Field, seed: int) -> CTVolume:
    hu, grid = ct.array(), ct.geometry
    rng = np.random.default_rng(seed)
    moved = np.empty_like(hu)
    i, j = np.meshgrid(np.arange(hu.shape[2]), np.arange(hu.shape[1]))
    for k in range(len(hu)):
        places = field.to_prior(grid.ijk_to_lps(np.stack([i, j, np.full_like(i, k)], -1)))
        kji = grid.lps_to_ijk(places)[..., ::-1].transpose(2, 0, 1)
        plane = map_coordinates(hu.astype(np.float32), kji, order=1, mode="nearest")
        plane += NOISE_HU * rng.standard_normal(plane.shape)
        moved[k] = np.clip(np.rint(plane), -1024, 3071)
    return CTVolume.from_array(
        moved, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction, "deformed"
    )


def nodules(path: Path, patient: str) -> list[tuple[float, float, float]]:
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ct"] == patient]
    return [
        (float(row["x_lps_mm"]), float(row["y_lps_mm"]), float(row["z_lps_mm"]))
        for row in rows
        if row["mark"] == "nodule" and int(row["readers"]) >= FEWEST_READERS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", type=Path)
    parser.add_argument("marks", type=Path)
    parser.add_argument("patient")
    parser.add_argument("--largest-mm", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/follow-up"))
    given = parser.parse_args()
    run(Characterizer.load(), given)


def run(model: Characterizer, given: argparse.Namespace) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    ct = CTVolume.open(given.ct)
    field = Field(ct, given.largest_mm, given.seed)
    later = deformed(ct, field, given.seed)
    points = nodules(given.marks, given.patient)
    found = compare(
        model, ct, later, prior_points=points, visits=(Visit("prior"), Visit("current"))
    )
    rows = []
    told = {(f.prior or {}).get("nodule_id"): f for f in found.current}
    for n, point in enumerate(points, start=1):
        truth = field.to_current(point)
        now = told.get(f"N{n}")
        change = ((now.prior or {}).get("change") or {}).get("volume_mm3") if now else None
        row = {
            "nodule": n,
            "displaced_mm": math.dist(point, truth),
            "registration_mm": math.dist(found.registration.to_current(point), truth),
            "found_mm": math.dist(now.centroid_lps_mm, truth) if now else None,
            "true_percent": 100 * (field.volume_factor(point) - 1),
            "percent": change and change["percent"],
            "interval": change and change["percent_interval_90"],
            "trend": now and (now.prior or {})["trend"],
        }
        rows.append(row)
        print(json.dumps(row))
    print(
        "overlap of the lungs", found.registration.overlap, "gone", [g.status for g in found.gone]
    )
    save_picture(given.out / f"{given.patient}.png", found, ct, later)
    (given.out / f"{given.patient}.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
