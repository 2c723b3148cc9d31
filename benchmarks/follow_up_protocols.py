"""A nodule in thin and in thick slices, under soft and sharp kernels: what a change is then worth.

    python benchmarks/follow_up_protocols.py ARCHIVE --out build/follow-up

ARCHIVE holds nodules with their surroundings (`resmtnet prepare cubes`). Each of them, and half as
many phantoms, is seen again with other noise, from another click, and made over: slices averaged to
thicker ones from two starts, blurred, sharpened. The nodule is the same, so every change that is
told is an error. Nothing is registered.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from follow_up import collect, quantiles, share
from perturbations import Click, blurred, noisy, sharpened, thick_slices
from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom
from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.findings import Size
from resmtnet.followup.acquisition import Acquisition, widening
from resmtnet.followup.change import GROWING, SIZES, change_of, trend
from resmtnet.network.uncertainty import conformal_quantile

CLICK_MM, NOISE_HU = 1.0, 12.0
SIGMA_MM, AMOUNT = 0.8, 1.0
"""Blur of the soft kernel; what the sharp one adds of what that blur takes."""
LUNG_LPS_MM, EDGE_MM = (-75.0, 5.0, 20.0), 56.0
FIRST_SEED = 50_000
PAIRS = (
    ("thin", "again"),
    ("thin", "2.5"),
    ("thin", "5"),
    ("5", "5 later"),
    ("thin", "soft"),
    ("thin", "sharp"),
    ("soft", "sharp"),
)
"""Prior and current version."""


def start_later(click: Click, slices: int) -> Click:
    ct, point = click
    grid = ct.geometry
    size = np.asarray(grid.size_ijk) - [0, 0, slices]
    part = grid.sub((0, 0, slices), size)
    made = CTVolume.from_array(
        ct.array()[slices:], part.spacing_mm[::-1], part.origin_lps_mm, part.direction, ct.image_id
    )
    return made, point


def versions(click: Click) -> dict[str, tuple[Click, Acquisition]]:
    """Return each version of a CT, and how it says that it was made."""
    ct, _ = click
    thin = Acquisition(ct.geometry.spacing_mm[2])
    sigma = SIGMA_MM / ct.geometry.spacing_mm[0]
    half = max(1, round(2.5 / ct.geometry.spacing_mm[2]))
    soft = blurred(click, sigma)
    return {
        "thin": (click, thin),
        "again": (click, thin),
        "2.5": (thick_slices(click, 2.5), Acquisition(2.5)),
        "5": (thick_slices(click, 5.0), Acquisition(5.0)),
        "5 later": (thick_slices(start_later(click, half), 5.0), Acquisition(5.0)),
        "soft": (soft, Acquisition(thin.slice_mm, "soft")),
        "sharp": (sharpened(click, sigma, AMOUNT), Acquisition(thin.slice_mm, "sharp")),
    }


def clicks(archive: Archive) -> Iterator[Click]:
    """Yield the nodules of an archive, and half as many phantoms, small ones most of all."""
    for nodule in archive.nodules:
        yield nodule_ct(archive, nodule)
    for number in range(len(archive.nodules) // 2):
        rng = np.random.default_rng(FIRST_SEED + number)
        spec = NoduleSpec(
            float(np.exp(rng.uniform(math.log(5), math.log(14)))),
            str(rng.choice(["solid", "solid", "part-solid"])),
            lobulation=float(rng.uniform(0, 0.5)),
            centre_lps_mm=LUNG_LPS_MM,
        )
        spacing = (1.0, 0.7, 0.7)
        k, j, i = (round(EDGE_MM / step) for step in spacing)
        made = make_phantom(number, (k, j, i), spacing, [spec], 15.0, centre_lps_mm=LUNG_LPS_MM)
        grid = made.geometry
        yield (
            CTVolume.from_array(made.hu, grid.spacing_mm[::-1], grid.origin_lps_mm),
            LUNG_LPS_MM,
        )


def run(model: Characterizer, number: int, click: Click, real: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(number)
    rows = []
    for name, (version, made) in versions(click).items():
        ct, point = noisy(version, NOISE_HU, rng)
        x, y, z = np.asarray(point) + CLICK_MM * rng.standard_normal(3)
        finding = model(ct, [(float(x), float(y), float(z))])[0]
        rows.append(
            {
                "nodule": number,
                "real": real,
                "version": name,
                "slice_mm": made.slice_mm,
                "kernel": made.kernel,
                "size": finding.size.to_json(),
            }
        )
    return rows


def changes(
    rows: Sequence[dict[str, Any]], name: str, prior: str, current: str, *, wider: bool
) -> list[Any]:
    """Return the changes of a size between two versions."""
    by = {(row["nodule"], row["version"]): row for row in rows}
    found = []
    for nodule in sorted({row["nodule"] for row in rows}):
        was, now = by[nodule, prior], by[nodule, current]
        sizes = [Size.from_json(row["size"]) for row in (was, now)]
        if any(size.equivalent_diameter_mm is None for size in sizes):
            continue
        made = [
            # The version that is not made over has a kernel of its own.
            Acquisition(row["slice_mm"], row["kernel"] or "its own")
            for row in (was, now)
        ]
        change = change_of(name, *sizes, widening(*made) if wider else 0.0)
        if change is not None and change.ratio_interval_90 is not None:
            found.append(change)
    return found


def figures(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for prior, current in PAIRS:
        for name in SIZES:
            parts = []
            for wider in (False, True):
                told = changes(rows, name, prior, current, wider=wider)
                inside = [c.ratio_interval_90[0] <= 1 <= c.ratio_interval_90[1] for c in told]
                widths = [100 * (c.ratio_interval_90[1] / c.ratio - 1) for c in told]
                parts.append(f"{share(inside)} +-{np.median(widths):.0f}%")
                grown = [trend(c) == GROWING for c in told]
                if name == "volume_mm3":
                    parts[-1] += f", called growing {sum(grown)}"
            told = changes(rows, name, prior, current, wider=False)
            errors = [100 * abs(math.log(c.ratio)) for c in told]
            bias = 100 * (math.exp(np.median([math.log(c.ratio) for c in told])) - 1)
            yield (
                f"{prior} -> {current}, {name}: change told, median {bias:+.0f}%, size of it "
                f"{quantiles(errors)}%; interval as it was {parts[0]}; widened {parts[1]}"
            )


def needed(rows: Sequence[dict[str, Any]], name: str, prior: str, current: str) -> float:
    """Return the half width of a log that has to come on top, so that 90% hold no change."""
    scores = []
    for change in changes(rows, name, prior, current, wider=False):
        half = math.log(change.ratio_interval_90[1] / change.ratio)
        more = math.log(change.ratio) ** 2 - half**2
        scores.append(math.sqrt(max(more, 0.0)))
    return float(conformal_quantile(np.array(scores), 0.9))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/follow-up"))
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    given = parser.parse_args()
    archive = Archive.open(given.archive)
    model, made = Characterizer.load(), list(clicks(archive))
    ask: Callable[[int], list[dict[str, Any]]] = lambda n: run(  # noqa: E731
        model, n, made[n], n < len(archive.nodules)
    )
    rows = collect(given.out / "protocols", ask, len(made), given.seconds)
    for some in (rows, [r for r in rows if r["real"]], [r for r in rows if not r["real"]]):
        print(f"--- {len({row['nodule'] for row in some})} nodules")
        for line in figures(some):
            print(line)
        for prior, current in PAIRS:
            told = {name: round(needed(some, name, prior, current), 2) for name in SIZES}
            print(f"{prior} -> {current}: needed on top {told}")


if __name__ == "__main__":
    main()
