"""A real CT against itself, made over as another scanner would: are its nodules found and measured?

    python benchmarks/follow_up_real.py CT MARKS.csv PATIENT --out build/follow-up [--only NAME ...]

MARKS.csv has ct, mark ("nodule"), x_lps_mm, y_lps_mm, z_lps_mm and readers: how many have marked
it. Beside these, the first candidates of a search are followed: what they are does not matter here,
only whether the same thing is found again. The later CT is the first one, moved by a known field,
with other noise; each condition adds what CONDITIONS says of it. A field deforms nodules too:
their true volume changes by what its Jacobian says. Each condition is a line of a file, so that a
stopped run continues.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from follow_up import quantiles, share
from perturbations import blurred, sharpened, thick_slices
from resmtnet import Characterizer, CTVolume
from resmtnet.ct import Geometry
from resmtnet.ct.phantom.follow_up import SmoothField
from resmtnet.followup.compare import VANISHED, Comparison, compare
from resmtnet.followup.look import place_of, size_mm
from resmtnet.followup.picture import save_picture
from resmtnet.followup.registration import Lungs
from resmtnet.followup.visit import Visit

FEWEST_READERS = 2
CANDIDATES = 8
"""Of a search, followed beside the nodules, as far as they are others."""
LANDMARKS = 200
"""Places in the lungs at which the error of the registration is told."""
TABLE_MM = (12.0, -30.0, 410.0)
"""Where the later CT has its zero."""
SAME_MM = 4.0
"""A structure is found again within this, or half of its diameter, of its true place."""


@dataclass(frozen=True)
class Condition:
    """How the later CT differs from the first one."""

    slice_mm: float | None = None
    """Thickness of its slices; None: as they are."""
    soft: bool = False
    sharp: bool = False
    noise_hu: float = 15.0
    largest_mm: float = 12.0
    """Greatest displacement of the smooth field."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the chest along L, P and S, from the apex of the lungs on; the lungs get denser for it."""
    turned_degrees: float = 0.0
    """The patient lies turned about the long axis."""
    pixel_mm: float | None = None
    """Another field of view: of 340 mm with its middle elsewhere."""
    enhanced_hu: float = 0.0
    """Added to soft tissue outside the lungs' air."""
    kept: tuple[float, float] = (0.0, 1.0)
    """Share of the CT that it covers, from the lowest slice on."""


BREATH = (0.98, 0.96, 0.905)
"""The lungs hold 15% less."""
CONDITIONS = {
    "same protocol": Condition(),
    "slices of 2.5 mm": Condition(slice_mm=2.5),
    "slices of 5 mm": Condition(slice_mm=5.0),
    "soft kernel": Condition(soft=True),
    "sharp kernel": Condition(sharp=True),
    "low dose": Condition(noise_hu=50.0),
    "other field of view": Condition(pixel_mm=0.9),
    "turned by 8 degrees": Condition(turned_degrees=8.0),
    "lungs 15% smaller": Condition(scale=BREATH),
    "contrast agent": Condition(enhanced_hu=120.0),
    "prone": Condition(scale=(1.04, 0.9, 1.0), largest_mm=25.0),
    "without the upper quarter": Condition(kept=(0.0, 0.75)),
    "lower half alone": Condition(kept=(0.0, 0.5)),
    "all at once": Condition(5.0, True, False, 30.0, 12.0, BREATH, 5.0, 0.9, 0.0, (0.0, 0.9)),
}


class Field:
    """A smooth field around the middle of a CT, then a turn and a scaling about the apex."""

    def __init__(self, ct: CTVolume, condition: Condition, seed: int) -> None:
        self._middle = ct.geometry.ijk_to_lps((np.asarray(ct.geometry.size_ijk) - 1) / 2)
        self._field = SmoothField(condition.largest_mm, np.random.default_rng(seed))
        lungs = Lungs.of(ct, "the CT")
        inside = lungs.grid.geometry.ijk_to_lps(np.argwhere(lungs.sides > 0)[:, ::-1])
        self._apex = np.array([*inside.mean(axis=0)[:2], inside[:, 2].max()])
        angle = math.radians(condition.turned_degrees)
        turn = np.array(
            [
                [math.cos(angle), -math.sin(angle), 0],
                [math.sin(angle), math.cos(angle), 0],
                [0, 0, 1],
            ]
        )
        self._matrix = turn @ np.diag(condition.scale)
        self._back = np.linalg.inv(self._matrix)

    def to_prior(self, lps_mm: Any) -> Any:
        moved = (np.asarray(lps_mm) - TABLE_MM - self._apex) @ self._back.T + self._apex
        return self._field.to_prior(moved - self._middle) + self._middle

    def to_current(self, lps_mm: Any) -> Any:
        moved = self._field.to_current(np.asarray(lps_mm) - self._middle) + self._middle
        return (moved - self._apex) @ self._matrix.T + self._apex + TABLE_MM

    def volume_factor(self, lps_mm: Any) -> float:
        """Return by how much a small volume at a place of the prior is larger in the current."""
        at, step = self.to_current(lps_mm), 1.0
        columns = [
            (self.to_prior(at + step * e) - self.to_prior(at - step * e)) / (2 * step)
            for e in np.eye(3)
        ]
        return float(1 / np.linalg.det(np.stack(columns, 1)))


def grid_of(ct: CTVolume, condition: Condition) -> Geometry:
    """Return the grid of the later CT; its middle is where that of the first one has moved to."""
    grid = ct.geometry
    spacing, size = np.asarray(grid.spacing_mm), np.asarray(grid.size_ijk)
    first, last = (round(share * size[2]) for share in condition.kept)
    start = grid.ijk_to_lps((0, 0, first)) + TABLE_MM
    if grid.direction[2, 2] < 0:  # the lowest slice is the last one
        start = grid.ijk_to_lps((0, 0, size[2] - last)) + TABLE_MM
    count = last - first
    if condition.pixel_mm is not None:
        old_mm = spacing[:2] * size[:2]
        new = np.minimum(340.0, old_mm)
        corner = (old_mm - new) / 2 + [8.0, -6.0] * (old_mm > new)
        start = start + grid.direction[:, :2] @ corner
        spacing = np.array([condition.pixel_mm, condition.pixel_mm, spacing[2]])
        size = np.array([*np.floor(new / condition.pixel_mm).astype(int), size[2]])
    i, j = int(size[0]), int(size[1])
    x, y, z = (float(mm) for mm in start)
    di, dj, dk = (float(mm) for mm in spacing)
    return Geometry((i, j, count), (di, dj, dk), (x, y, z), grid.direction)


def later(ct: CTVolume, field: Field, condition: Condition, seed: int) -> CTVolume:
    """Return the CT as it is seen later."""
    hu, grid, rng = (
        ct.array().astype(np.float32),
        grid_of(ct, condition),
        np.random.default_rng(seed),
    )
    if condition.enhanced_hu:
        soft = (hu > 0) & (hu < 120)
        hu = hu + condition.enhanced_hu * soft
    denser = 1 / math.prod(condition.scale)
    moved = np.empty(grid.shape_kji, np.int16)
    i, j = np.meshgrid(np.arange(grid.size_ijk[0]), np.arange(grid.size_ijk[1]))
    for k in range(len(moved)):
        places = field.to_prior(grid.ijk_to_lps(np.stack([i, j, np.full_like(i, k)], -1)))
        kji = ct.geometry.lps_to_ijk(places)[..., ::-1].transpose(2, 0, 1)
        plane = map_coordinates(hu, kji, order=1, mode="nearest")
        lung = plane < -500
        plane[lung] = np.minimum((plane[lung] + 1000) * denser - 1000, -500)
        plane += condition.noise_hu * rng.standard_normal(plane.shape)
        moved[k] = np.clip(np.rint(plane), -1024, 3071)
    made = CTVolume.from_array(
        moved, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction, "later"
    )
    click = made, (0.0, 0.0, 0.0)
    sigma = 0.8 / grid.spacing_mm[0]
    if condition.soft:
        click = blurred(click, sigma)
    if condition.sharp:
        click = sharpened(click, sigma, 1.0)
    if condition.slice_mm is not None:
        click = thick_slices(click, condition.slice_mm)
    return click[0]


def nodules(path: Path, patient: str) -> list[tuple[float, float, float]]:
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ct"] == patient]
    return [
        (float(row["x_lps_mm"]), float(row["y_lps_mm"]), float(row["z_lps_mm"]))
        for row in rows
        if row["mark"] == "nodule" and int(row["readers"]) >= FEWEST_READERS
    ]


def registration_errors(found: Comparison, field: Field, current: CTVolume) -> list[float]:
    """Return the errors at places in the lungs that the later CT shows, mm."""
    lungs = found.registration.prior
    inside = np.argwhere(lungs.sides > 0)
    drawn = np.random.default_rng(0).choice(len(inside), LANDMARKS, replace=False)
    errors = []
    for place in lungs.grid.geometry.ijk_to_lps(inside[drawn][:, ::-1]):
        truth = field.to_current(place)
        if current.geometry.contains(truth):
            errors.append(math.dist(found.registration.to_current(place), truth))
    return errors


def run(
    model: Characterizer,
    ct: CTVolume,
    points: Sequence[Any],
    candidates: Sequence[Any],
    name: str,
    given: argparse.Namespace,
) -> dict[str, Any]:
    condition = CONDITIONS[name]
    field = Field(ct, condition, given.seed)
    current = later(ct, field, condition, given.seed)
    followed = [*points, *candidates]
    started = time.process_time()
    visits = Visit("prior"), Visit("current")
    found = compare(model, ct, current, prior_points=followed, visits=visits)
    seconds = time.process_time() - started
    told = {(one.prior or {}).get("nodule_id"): one for one in found.current}
    gone = {one.prior.id: one.status for one in found.gone}
    rows = []
    for n, was in enumerate(found.prior):
        truth = field.to_current(place_of(was))
        now = told.get(was.id)
        change = ((now.prior or {}).get("change") or {}).get("volume_mm3") if now else None
        away_mm = math.dist(place_of(now), truth) if now else None
        rows.append(
            {
                "nodule": n < len(points),
                "mm": size_mm(was),
                "shown": bool(current.geometry.contains(truth)),
                "status": "paired" if now else gone.get(was.id),
                "away_mm": away_mm,
                "right": away_mm is not None and away_mm <= max(SAME_MM, size_mm(was) / 2),
                "true_percent": 100 * (field.volume_factor(place_of(was)) - 1),
                "percent": change and change["percent"],
                "interval": change and change["percent_interval_90"],
                "trend": now and (now.prior or {})["trend"],
            }
        )
    if given.pictures:
        save_picture(given.out / f"{given.patient} {name}.png", found, ct, current)
    return {
        "patient": given.patient,
        "condition": name,
        "overlap": found.registration.overlap,
        "good": found.registration.is_good,
        "errors_mm": registration_errors(found, field, current),
        "warnings": list(found.warnings),
        "cpu_s": round(seconds, 1),
        "rows": rows,
    }


def report(entries: list[dict[str, Any]]) -> None:
    """Print a row of docs/follow-up.md for each condition."""
    for name in CONDITIONS:
        some = [entry for entry in entries if entry["condition"] == name]
        if not some:
            continue
        rows = [row for entry in some for row in entry["rows"]]
        shown, hidden = ([r for r in rows if r["shown"] is shows] for shows in (True, False))
        paired = [row for row in shown if row["status"] == "paired"]
        marked = [row for row in paired if row["nodule"] and row["interval"]]
        held = [r["interval"][0] <= r["true_percent"] <= r["interval"][1] for r in marked]
        figures = {
            "CTs": len(some),
            "good registration": sum(entry["good"] for entry in some),
            "error mm": quantiles([mm for entry in some for mm in entry["errors_mm"]]),
            "nodules found": share([r["right"] for r in shown if r["nodule"]]),
            "all found": share([r["right"] for r in shown]),
            "paired wrongly": f"{sum(not r['right'] for r in paired)} of {len(paired)}",
            "called vanished": sum(r["status"] == VANISHED for r in shown),
            "not shown": [row["status"] for row in hidden],
            "interval of volume holds": share(held),
            "half width %": quantiles([(r["interval"][1] - r["interval"][0]) / 2 for r in marked]),
            "CPU s": quantiles([entry["cpu_s"] for entry in some]),
        }
        print(f"{name}: " + "; ".join(f"{what} {value}" for what, value in figures.items()))
        for row in marked:
            low, high = row["interval"]
            print(
                f"    {row['mm']:.0f} mm: true {row['true_percent']:+.0f}%, told "
                f"{row['percent']:+.0f}% ({low:+.0f} to {high:+.0f}), {row['trend']}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ct", type=Path, nargs="?")
    parser.add_argument("marks", type=Path, nargs="?")
    parser.add_argument("patient", nargs="?")
    parser.add_argument("--only", action="append", choices=CONDITIONS, help="may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/follow-up"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path, started = given.out / "real.jsonl", time.monotonic()
    entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if given.ct is not None:
        model, ct = Characterizer.load(), CTVolume.open(given.ct)
        points = nodules(given.marks, given.patient)
        wanted = model.find(ct, max_candidates=CANDIDATES) if CANDIDATES else []
        candidates = [
            one.centre_lps_mm
            for one in wanted
            if all(math.dist(place_of(one), point) > max(15.0, size_mm(one)) for point in points)
        ]
        done = {entry["condition"] for entry in entries if entry["patient"] == given.patient}
        for name in given.only or CONDITIONS:
            if name in done or time.monotonic() - started > given.seconds:
                continue
            entries.append(run(model, ct, points, candidates, name, given))
            with path.open("a") as file:
                file.write(json.dumps(entries[-1]) + "\n")
    report(entries)


if __name__ == "__main__":
    main()
