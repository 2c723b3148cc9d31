"""Is the solid part of a nodule found where readers see one, and measured right in phantoms?

    python benchmarks/solid_component.py --data ARCHIVE [--data ...] [--folds 0,1,2,3]
        [--model DIR] [--solid 200] [--fewest-readers 2] [--json FILE] [--csv FILE]
    python benchmarks/solid_component.py --phantoms 30 [--model DIR] [--json FILE]

The readers rate texture from 1 (non-solid) to 5 (solid). Told is the share of nodules, by the class
of their mean rating, that are answered as that class asks: non-solid nodules have no solid part,
part-solid ones have one, and that of solid nodules has at least .8 of the nodule's mean diameter.
A nodule counts if enough readers rated it; of solid nodules, which are many, some are drawn.

Phantoms are part-solid nodules whose core is known, 4 mm wide or more and of 30 to 70% of the
nodule, in slices of 1 to 2.5 mm with and without lobes; told is the error of the core's diameter,
within the true mask ("measurement") and within the model's own ("click").
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet import Characterizer, CTVolume
from resmtnet.characteristics import TEXTURE, texture_class_of
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.findings import Size
from resmtnet.inference.solid_component import SolidCalibration, solid_component
from resmtnet.types import Point

SOLID_FROM_SHARE = 0.8
LEAST_CORE_MM = 4.0
LUNG_LPS_MM: Point = (-75.0, 5.0, 20.0)
"""In the right lung of the phantom."""
EDGE_MM = 56.0
CSV_HEAD = ("id", "fold", "readers", "texture", "told", "mean_diameter_mm", "solid_component_mm")
Row = tuple[str, int, int, float, str, float, float]


def as_asked(texture_class: str, solid_mm: float, mean_diameter_mm: float) -> bool:
    """Return whether a solid part fits a texture class.

    >>> as_asked("non-solid", 0.0, 9.0), as_asked("solid", 7.0, 9.0)
    (True, False)
    """
    if texture_class == "solid":
        return solid_mm >= SOLID_FROM_SHARE * mean_diameter_mm
    return (solid_mm > 0) == (texture_class == "part-solid")


def chosen(archive: Archive, folds: Sequence[int], fewest_readers: int, solid: int) -> list[Nodule]:
    """Return the nodules that count; of solid ones as many as are asked for, by chance."""
    rated = [
        nodule
        for nodule in archive.nodules
        if len(nodule.given(TEXTURE.name)) >= fewest_readers and (not folds or nodule.fold in folds)
    ]
    kinds = [texture_class_of(statistics.fmean(nodule.given(TEXTURE.name))) for nodule in rated]
    of_solid = np.flatnonzero(np.array(kinds) == "solid")
    drawn = set(np.random.default_rng(0).permutation(of_solid)[:solid].tolist())
    return [
        nodule
        for n, (nodule, kind) in enumerate(zip(rated, kinds, strict=True))
        if kind != "solid" or n in drawn
    ]


def answers(model: Characterizer, archive: Archive, nodules: Sequence[Nodule]) -> Iterator[Row]:
    """Yield what is told of each nodule; one without a mask is left out."""
    for nodule in nodules:
        ct, centre = nodule_ct(archive, nodule)
        finding = model(ct, [centre])[0]
        size, ratings = finding.size, nodule.given(TEXTURE.name)
        if size.solid_component_mm is None or size.mean_diameter_mm is None:
            continue
        yield (
            nodule.id,
            nodule.fold,
            len(ratings),
            statistics.fmean(ratings),
            finding.characteristics[TEXTURE.name].name,
            size.mean_diameter_mm,
            size.solid_component_mm,
        )


def shares(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the share answered as asked, by texture class, for all and for three readers."""
    told: dict[str, Any] = {}
    for name, fewest in (("all", 0), ("three readers or more", 3)):
        right: dict[str, list[bool]] = {}
        for row in rows:
            kind = texture_class_of(row[3])
            if row[2] >= fewest:
                right.setdefault(kind, []).append(as_asked(kind, row[6], row[5]))
        told[name] = {
            kind: {"nodules": len(values), "as_asked": float(np.mean(values))}
            for kind, values in sorted(right.items())
        }
    return told


def phantoms(count: int) -> Iterator[tuple[Phantom, float]]:
    """Yield part-solid phantoms and the mean diameter of their core."""
    for seed in range(count):
        draw = np.random.default_rng(seed)
        diameter = float(draw.choice([10.0, 14.0, 18.0, 24.0]))
        fraction = max(float(draw.choice([0.3, 0.5, 0.7])), LEAST_CORE_MM / diameter)
        lobes = float(draw.choice([0.0, 0.4]))
        spacing = float(draw.choice([1.0, 1.25, 2.5])), *[float(draw.choice([0.6, 0.75, 0.9]))] * 2
        spec = NoduleSpec(
            diameter,
            "part-solid",
            lobulation=lobes,
            solid_fraction=fraction,
            centre_lps_mm=LUNG_LPS_MM,
        )
        k, j, i = (round(EDGE_MM / step) for step in spacing)
        noise_hu = float(draw.choice([15.0, 30.0]))
        made = make_phantom(seed, (k, j, i), spacing, [spec], noise_hu, centre_lps_mm=LUNG_LPS_MM)
        core_mm = made.nodules[0].solid_component_mm
        assert core_mm is not None  # for the type checker: the nodule is part-solid
        yield made, core_mm


def phantom_errors(model: Characterizer, count: int) -> dict[str, Any]:
    """Return the errors of the core's diameter, mm, and how often the interval holds it."""
    errors: dict[str, list[float]] = {"measurement": [], "click": []}
    held: dict[str, list[bool]] = {"measurement": [], "click": []}
    calibration: SolidCalibration = model.model.calibration.solid
    for made, core_mm in phantoms(count):
        grid = made.geometry
        ct = CTVolume.from_array(made.hu, grid.spacing_mm[::-1], grid.origin_lps_mm)
        size: Size = model(ct, [LUNG_LPS_MM])[0].size
        exact = solid_component(made.hu, made.label_map(), grid, calibration.from_hu, calibration)
        assert exact is not None  # for the type checker: the mask is not empty
        told = {"measurement": (exact.mean_diameter_mm, exact.interval_mm)}
        if size.solid_component_mm is not None:
            interval = size.interval_90["solid_component_mm"]
            told["click"] = (size.solid_component_mm, interval)
        for name, (mm, (low, high)) in told.items():
            errors[name].append(mm - core_mm)
            held[name].append(low <= core_mm <= high)
    return {
        name: {
            "phantoms": len(values),
            "bias_mm": float(np.mean(values)),
            "mae_mm": float(np.mean(np.abs(values))),
            "within_1_mm": float(np.mean(np.abs(values) <= 1)),
            "coverage_of_interval_90": float(np.mean(held[name])),
            "errors_mm": [round(value, 2) for value in values],
        }
        for name, values in errors.items()
    }


def main() -> None:
    """Ask the model for all nodules, or for phantoms, and print the figures."""
    given = _arguments()
    model = Characterizer.load(given.model)
    rows: list[Row] = []
    for path in given.data or ():
        archive = Archive.open(path)
        nodules = chosen(archive, given.folds, given.fewest_readers, given.solid)
        rows += answers(model, archive, nodules)
    document: dict[str, Any] = {"model": model.info.sha256}
    if rows:
        document["by readers' texture"] = shares(rows)
    if given.phantoms:
        document["phantoms"] = phantom_errors(model, given.phantoms)
    print(json.dumps(document, indent=1))
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.csv:
        with given.csv.open("w", newline="") as file:
            csv.writer(file).writerows([CSV_HEAD, *rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", help="Archive of nodules.")
    parser.add_argument("--folds", type=lambda text: [int(n) for n in text.split(",")], default=[])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--solid", type=int, default=200, help="Solid nodules asked.")
    parser.add_argument("--fewest-readers", type=int, default=2)
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
