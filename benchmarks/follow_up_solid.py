"""Is growth of the solid part alone told, and does its interval hold? Phantom pairs of known cores.

    python benchmarks/follow_up_solid.py --pairs 120 --out build/follow-up

Both CTs of a pair show one nodule of the same size and shape, with other slices, noise, place of
the click and lung around it; only its core grows, from nothing in some. Nothing is registered.
The interval of one half of the pairs rests on a share that is fitted on the other half.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from follow_up import collect, quantiles, share
from resmtnet import Characterizer, CTVolume
from resmtnet.characteristics import TEXTURE
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom
from resmtnet.findings import Finding, Size
from resmtnet.followup.solid_part import SHARE, SolidChange, solid_change, solid_growth
from resmtnet.network.uncertainty import conformal_quantile

DIAMETERS_MM = (10.0, 14.0, 18.0, 24.0)
BEFORE_MM = (0.0, 3.0, 4.0, 6.0)
GROWTHS_MM = (0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0)
LUNG_LPS_MM = (-75.0, 5.0, 20.0)
"""In the right lung of the phantom."""
EDGE_MM = 56.0
CLICK_MM = 1.0
DAYS = 180
FIRST_SEED = 40_000


def draw(number: int) -> tuple[list[Phantom], tuple[float, float]]:
    """Return a pair, and the mean diameter of its core before and now, mm."""
    rng = np.random.default_rng(FIRST_SEED + number)
    diameter_mm = float(rng.choice(DIAMETERS_MM))
    before_mm = float(rng.choice(BEFORE_MM))
    now_mm = min(before_mm + float(rng.choice(GROWTHS_MM)), 0.8 * diameter_mm)
    lobes, seed = float(rng.choice([0.0, 0.4])), int(rng.integers(2**31))
    made, cores = [], []
    for core_mm in (before_mm, now_mm):
        spacing = float(rng.choice([1.0, 1.25, 2.0])), *[float(rng.choice([0.6, 0.75, 0.9]))] * 2
        spec = NoduleSpec(
            diameter_mm,
            "part-solid" if core_mm else "non-solid",
            lobulation=lobes,
            solid_fraction=core_mm / diameter_mm,
            centre_lps_mm=LUNG_LPS_MM,
        )
        k, j, i = (round(EDGE_MM / step) for step in spacing)
        noise_hu = float(rng.choice([12.0, 25.0, 40.0]))
        phantom = make_phantom(
            seed, (k, j, i), spacing, [spec], noise_hu, centre_lps_mm=LUNG_LPS_MM
        )
        made.append(phantom)
        cores.append(phantom.nodules[0].solid_component_mm or 0.0)
    return made, (cores[0], cores[1])


def run(model: Characterizer, number: int) -> list[dict[str, Any]]:
    made, truth = draw(number)
    rng = np.random.default_rng(number)
    found: list[Finding] = []
    for phantom in made:
        grid = phantom.geometry
        ct = CTVolume.from_array(phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm)
        x, y, z = np.asarray(LUNG_LPS_MM) + CLICK_MM * rng.standard_normal(3)
        found.append(model(ct, [(float(x), float(y), float(z))])[0])
    return [
        {
            "pair": number,
            "true_mm": truth,
            "sizes": [one.size.to_json() for one in found],
            "textures": [one.characteristics[TEXTURE.name].name for one in found],
        }
    ]


def change_of(row: dict[str, Any]) -> SolidChange | None:
    before, now = (Size.from_json(told) for told in row["sizes"])
    return solid_change(before, now, *row["textures"])


def score(row: dict[str, Any], change: SolidChange) -> float:
    """Return the error of a difference, as a multiple of its half width for a share of 1."""
    assert change.difference_interval_90 is not None  # for the type checker
    told = change.current_mm - change.prior_mm
    error = (row["true_mm"][1] - row["true_mm"][0]) - told
    low, high = change.difference_interval_90
    return abs(error) / max((high - told if error > 0 else told - low) / SHARE, 1e-9)


def fitted(rows: Sequence[dict[str, Any]]) -> float:
    scores = [score(row, change) for row, change in measured(rows)]
    return float(conformal_quantile(np.array(scores), 0.9))


def measured(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], SolidChange]]:
    """Return the pairs of which both solid parts are of one thing."""
    told = [(row, change_of(row)) for row in rows]
    return [(row, one) for row, one in told if one is not None and one.textures is None]


def figures(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    judged = measured(rows)
    shares = {half: fitted([row for row in rows if row["pair"] % 2 != half]) for half in (0, 1)}
    inside = [score(row, change) <= shares[row["pair"] % 2] for row, change in judged]
    some_part, of_one = [row for row in rows if change_of(row)], [row for row, _ in judged]
    errors, widths = [], []
    for row, change in judged:
        low, high = change.difference_interval_90 or (math.nan, math.nan)
        errors.append(abs(change.difference_mm - (row["true_mm"][1] - row["true_mm"][0])))
        widths.append((high - low) / 2 / SHARE * shares[row["pair"] % 2])
    told = [
        (
            "a solid part is measured at one time at least",
            share([bool(change_of(r)) for r in rows]),
        ),
        ("of these named solid at one time alone", share([r not in of_one for r in some_part])),
        ("error of the difference, median / 95% / largest mm", quantiles(errors)),
        ("90% interval covers", share(inside)),
        ("half width of it, median / 95% / largest mm", quantiles(widths)),
    ]
    groups = {
        "unchanged": lambda was, now: was and abs(now - was) < 0.3,
        "grown by 0.5 to 1.5 mm": lambda was, now: was and 0.5 <= now - was <= 1.5,
        "grown by 1.7 to 2.5 mm": lambda was, now: was and 1.7 <= now - was <= 2.5,
        "grown by more than 2.5 mm": lambda was, now: was and now - was > 2.5,
        "ground glass at both times": lambda was, now: not was and not now,
        "new, up to 1.5 mm": lambda was, now: not was and 0 < now <= 1.5,
        "new, more than 1.5 mm": lambda was, now: not was and now > 1.5,
    }
    for name, belongs in groups.items():
        some = [row for row in rows if belongs(*row["true_mm"])]
        told_of = [solid_growth(change_of(row), DAYS) for row in some]
        called = [one is not None and one["growth"] is True for one in told_of]
        silent = sum(one is not None and one["growth"] is None for one in told_of)
        told.append((f"{name}: called growing or new", f"{share(called)}, no verdict {silent}"))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/follow-up"))
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    given = parser.parse_args()
    model = Characterizer.load()
    rows = collect(given.out / "solid", lambda n: run(model, n), given.pairs, given.seconds)
    print(f"SHARE = {fitted(rows):.3f}")
    for name, text in figures(rows):
        print(f"{name}: {text}")
    (given.out / "solid" / "figures.json").write_text(json.dumps(dict(figures(rows)), indent=1))


if __name__ == "__main__":
    main()
