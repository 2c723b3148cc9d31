"""How much predictions change under changes of the CT that should not matter.

    python benchmarks/robustness.py CUBES [--ct FOLDER --at X,Y,Z] [--model DIR] [--json FILE]

CUBES is the archive of nodules with full context (`resmtnet prepare cubes`). Three groups are
measured apart: those nodules, phantoms (a small box of lung around one nodule each, 1 mm voxels),
and, if given, the one nodule of a whole CT. Two tables: what changes of the input do, and how the
size depends on where inside the nodule the click is (voxels of the readers' mask, of the
phantom's truth, or, on the whole CT, of the mask that the click at its centre gives).

Per change: |change| of the probability of malignant, relative |change| of the equivalent diameter
measured on the mask (both: median and 95th percentile), share of nodules whose class name changes,
nodules that lose their mask. A cube ends 1.5 mm beyond the patch, so larger shifts are measured on
the whole CT only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import perturbations as changes
from made_inputs import phantom_nodule
from perturbations import Change, Click
from resmtnet import Characterizer, CTVolume
from resmtnet.ct.geometry import Geometry
from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.findings import Finding

SEED = 0
ASKED = 0.10
"""Greatest median relative difference of the size that a click off the centre may make."""
BOX_MM = 120.0
"""Part of the whole CT that is changed: more than any patch and mask can reach."""
PHANTOM_DIAMETERS_MM = (6.0, 10.0, 18.0)
TEXTURES = ("solid", "part-solid", "non-solid")

Variants = dict[str, list[Callable[[Click], Click]]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A nodule to be changed, with voxels that are surely inside it."""

    click: Click
    inside: NDArray[np.bool_] | None
    """[k, j, i] on the CT's voxels; None: the mask that the model gives."""


def variants(spacing_mm: float, whole_ct: bool) -> Variants:
    """Return the changes of one group by the name of their row.

    Args:
        spacing_mm: of the slices; slices only ever get thicker.
        whole_ct: larger shifts are possible.
    """
    steps = [sign * step for step in np.eye(3) for sign in (1, -1)]
    found: Variants = {
        "flip left-right": [partial(changes.flipped, axis=2)],
        "flip front-back": [partial(changes.flipped, axis=1)],
        "flip head-foot": [partial(changes.flipped, axis=0)],
        "rotate 90, 180, 270 in plane": [
            partial(changes.rotated, axes=(1, 2), turns=turns) for turns in (1, 2, 3)
        ],
        "rotate 90 out of plane": [
            partial(changes.rotated, axes=axes) for axes in ((0, 1), (0, 2))
        ],
        "centre +-1 voxel": [partial(changes.shifted, voxels_ijk=step) for step in steps],
    }
    if whole_ct:
        found["centre +-3 mm"] = [partial(moved, shift_mm=3 * step) for step in steps]
    found["HU +30"] = [partial(changes.offset, offset_hu=30)]
    found["HU -30"] = [partial(changes.offset, offset_hu=-30)]
    found["noise 30 HU"] = [with_noise]
    for thickness_mm in (2.5, 5.0):
        if thickness_mm > spacing_mm + 0.1:
            found[f"slices {spacing_mm:g} -> {thickness_mm:g} mm"] = [
                partial(changes.thick_slices, thickness_mm=thickness_mm)
            ]
    found["blur, sigma 0.7 px"] = [partial(changes.blurred, sigma_px=0.7)]
    found["sharpen, sigma 1 px, amount 1"] = [partial(changes.sharpened, sigma_px=1.0, amount=1.0)]
    return found


def moved(click: Click, shift_mm: NDArray[np.float64]) -> Click:
    """Move the point; the CT stays."""
    x, y, z = (float(v) for v in np.add(click[1], shift_mm))
    return click[0], (x, y, z)


def with_noise(click: Click) -> Click:
    """Add the same noise to every nodule."""
    return changes.noisy(click, 30, np.random.default_rng(SEED))


def cubes(archive: Archive, limit: int | None) -> Iterator[Subject]:
    for nodule in archive.nodules[:limit]:
        yield Subject(nodule_ct(archive, nodule), archive.mask(nodule) > 127)


def phantoms(limit: int | None) -> Iterator[Subject]:
    kinds = list(product(PHANTOM_DIAMETERS_MM, TEXTURES))
    for seed, (diameter_mm, texture) in enumerate(kinds[:limit]):
        click, inside = phantom_nodule(seed, diameter_mm, texture)
        yield Subject(click, inside)


def whole_ct(folder: Path, at: tuple[float, float, float]) -> Iterator[Subject]:
    ct = CTVolume.open(folder)
    yield Subject(changes.held_around((ct, at), BOX_MM), None)


def measure_changes(model: Characterizer, subjects: Sequence[Subject], whole: bool) -> list[Any]:
    """Return one row per change."""
    spacing_mm = max(s.click[0].geometry.spacing_mm[2] for s in subjects)
    before = [model(s.click[0], [s.click[1]])[0] for s in subjects]
    rows = []
    for name, change_all in variants(spacing_mm, whole).items():
        found = []
        for subject, was in zip(subjects, before, strict=True):
            for change in change_all:
                ct, point = change(subject.click)
                found.append(Change.between(was, model(ct, [point])[0]))
        rows.append({"change": name} | changes.summarise_changes(found))
    return rows


def measure_clicks(model: Characterizer, subjects: Sequence[Subject], count: int) -> dict[str, Any]:
    """Return how sizes at points inside differ from the one at the centre."""
    diameters: list[float] = []
    volumes: list[float] = []
    clicks = lost = 0
    generator = np.random.default_rng(SEED)
    for subject in subjects:
        ct, centre = subject.click
        was = model(ct, [centre])[0]
        if was.mask is None or was.start_ijk is None:
            continue
        inside: NDArray[Any]
        if subject.inside is None:
            inside, grid = was.mask > 0, _grid_of(ct, was.start_ijk, was.mask.shape)
        else:
            inside, grid = subject.inside, ct.geometry
        for now in model(ct, changes.points_inside(inside, grid, count, generator)):
            clicks += 1
            if now.mask is None:
                lost += 1
                continue
            diameters.append(relative_change(was, now, "equivalent_diameter_mm"))
            volumes.append(relative_change(was, now, "volume_mm3"))
    return {
        "clicks": clicks,
        "lost_masks": lost,
        "diameter_median": changes.quantile(diameters, 0.5),
        "diameter_p90": changes.quantile(diameters, 0.9),
        "volume_median": changes.quantile(volumes, 0.5),
        "volume_p90": changes.quantile(volumes, 0.9),
        "within_10_percent": float(np.mean(np.array(diameters) <= ASKED)) if diameters else None,
    }


def relative_change(was: Finding, now: Finding, name: str) -> float:
    """Return |change| of a size of two findings that have a mask, as a share."""
    return float(abs(getattr(now.size, name) / getattr(was.size, name) - 1))


def _grid_of(ct: CTVolume, start_ijk: Sequence[int], shape_kji: Sequence[int]) -> Geometry:
    return ct.geometry.sub(start_ijk, list(reversed(shape_kji)))


def show(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def table_of_changes(group: str, rows: Sequence[Any]) -> str:
    lines = [
        f"### {group}",
        "",
        "| change | abs. dP median | dP 95th | rel. d(diameter) median | 95th | class renamed "
        "| masks lost |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['change']} | {show(row['probability_median'])} | {show(row['probability_p95'])} "
        f"| {percent(row['diameter_median'])} | {percent(row['diameter_p95'])} "
        f"| {percent(row['renamed_share'])} | {row['lost_masks']} of {row['with_mask']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def table_of_clicks(groups: dict[str, Any]) -> str:
    lines = [
        "### Click anywhere inside the nodule, against a click at its centre",
        "",
        "| | clicks | diameter median | 90th | within 10% | volume median | 90th | no mask "
        "| at most 10% asked |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in groups.items():
        row, median = found["clicks"], found["clicks"]["diameter_median"]
        met = "met" if median is not None and median <= ASKED else "missed"
        lines.append(
            f"| {name} | {row['clicks']} | {percent(median)} | {percent(row['diameter_p90'])} "
            f"| {percent(row['within_10_percent'])} | {percent(row['volume_median'])} "
            f"| {percent(row['volume_p90'])} | {row['lost_masks']} | {met} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cubes", type=Path, help="archive of nodules with full context")
    parser.add_argument("--ct", type=Path, help="a whole CT: folder of a series, or a file")
    parser.add_argument("--at", metavar="X,Y,Z", help="its nodule, LPS mm")
    parser.add_argument("--points", type=int, default=4, help="clicks inside each nodule")
    parser.add_argument("--limit", type=int, help="only the first nodules of each group")
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU if there is one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    if (given.ct is None) != (given.at is None):
        parser.error("give --ct and --at together, or neither")
    started = time.perf_counter()
    model = Characterizer.load(given.model, given.device)
    groups = {
        "full-context cubes": list(cubes(Archive.open(given.cubes), given.limit)),
        "phantoms": list(phantoms(given.limit)),
    }
    if given.ct is not None:
        x, y, z = (float(part) for part in given.at.split(","))
        groups["whole CT, one nodule"] = list(whole_ct(given.ct, (x, y, z)))
    document: dict[str, Any] = {"model": model.info.sha256, "groups": {}}
    for name, subjects in groups.items():
        whole = name.startswith("whole")
        document["groups"][name] = {
            "nodules": len(subjects),
            "changes": measure_changes(model, subjects, whole),
            "clicks": measure_clicks(model, subjects, given.points * (8 if whole else 1)),
        }
        rows = document["groups"][name]["changes"]
        print(table_of_changes(f"{name} (n = {len(subjects)})", rows), flush=True)
    print(table_of_clicks(document["groups"]))
    document["seconds"] = round(time.perf_counter() - started, 1)
    print(f"{document['seconds']} s, model {model.info.version} {model.info.sha256[:12]}")
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
