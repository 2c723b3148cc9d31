"""How well `resmtnet compare` tells growth: phantom pairs of known growth under a known field.

    python benchmarks/follow_up.py --out build/follow-up

Each pair is a line of a file, so that a stopped run continues. The intervals of one half of the
pairs rest on shares that are fitted on the other half; change.REPEATABILITY holds those of all.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom import FollowUp, NoduleSpec, Phantom, make_follow_up
from resmtnet.findings import Size
from resmtnet.followup.change import GROWING, REPEATABILITY, SIZES, change_of, trend
from resmtnet.followup.compare import VANISHED, Comparison, compare
from resmtnet.followup.look import place_of, size_mm
from resmtnet.followup.pairing import Spot, pair
from resmtnet.followup.visit import Visit
from resmtnet.network.uncertainty import conformal_quantile

FIRST_SEED = 20_000
PAIRS = 60
MOST_NODULES = 12
"""In each CT; one of them is gone in the current CT, and one there is new. Pairing is judged with
all of them, and with every choice of 1 to 4 that SUBSETS draws."""
SUBSETS = 40
GROWTHS = (0.8, 1.0, 1.0, 1.25, 1.6, 1.6, 2.0, 3.0)
"""Volume now as a multiple of that before, drawn for each nodule."""
TEXTURES = ("solid", "solid", "solid", "part-solid", "non-solid")
SPACINGS = ((1.25, 1.0, 1.0), (1.5, 1.0, 1.0), (2.0, 0.9, 0.9))
EXTENT_MM = (212.0, 176.0, 248.0)
"""The lungs, with little around them."""
CENTRE_LPS_MM = (0.0, 2.0, -5.0)
CLICK_MM = 1.0
"""Standard deviation of a click around the middle of a nodule, along each axis."""


def draw(number: int) -> tuple[FollowUp, list[float | None], float]:
    """Return a pair, the growth of each nodule (None: gone), and the greatest displacement, mm."""
    rng = np.random.default_rng(FIRST_SEED + number)
    count = MOST_NODULES
    specs = []
    for _ in range(count):
        texture = str(rng.choice(TEXTURES))
        low = 5.0 if texture == "solid" else 7.0
        specs.append(
            NoduleSpec(
                float(np.exp(rng.uniform(math.log(low), math.log(15.0)))),
                texture,
                lobulation=float(rng.uniform(0, 0.5)),
                spiculation=float(rng.choice([0.0, 0.0, 0.4])),
            )
        )
    growth: list[float | None] = [float(g) for g in rng.choice(GROWTHS, count)]
    growth[int(rng.integers(count))] = None
    new = [NoduleSpec(float(rng.uniform(6, 10)))]
    before, after = (SPACINGS[int(n)] for n in rng.integers(len(SPACINGS), size=2))
    largest_mm = float(rng.uniform(5, 15))
    made = make_follow_up(
        int(rng.integers(2**31)),
        specs,
        growth,
        new=new,
        largest_mm=largest_mm,
        shape_kji=tuple(round(mm / s) for mm, s in zip(EXTENT_MM, before, strict=True)),
        spacing_mm=before,
        current_spacing_mm=after,
        noise_hu=(float(rng.uniform(10, 45)), float(rng.uniform(10, 45))),
        centre_lps_mm=CENTRE_LPS_MM,
    )
    return made, growth, largest_mm


def ct_of(phantom: Phantom, name: str) -> CTVolume:
    grid = phantom.geometry
    return CTVolume.from_array(
        phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction, name
    )


def clicks(phantom: Phantom, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    found = []
    for nodule in phantom.nodules:
        x, y, z = np.asarray(nodule.centre_lps_mm) + CLICK_MM * rng.standard_normal(3)
        found.append((float(x), float(y), float(z)))
    return found


def true_size(phantom: Phantom, n: int) -> dict[str, float]:
    return {name: float(getattr(phantom.nodules[n], name)) for name in SIZES}


def compare_pair(model: Characterizer, number: int) -> list[dict[str, Any]]:
    """Compare both CTs as a user does who has marked the nodules of both."""
    made, _, largest_mm = draw(number)
    rng = np.random.default_rng(number)
    started = time.process_time()
    told = compare(
        model,
        ct_of(made.prior, "prior"),
        ct_of(made.current, "current"),
        prior_points=clicks(made.prior, rng),
        points=clicks(made.current, rng),
        visits=(Visit("prior"), Visit("current")),
    )
    seconds = time.process_time() - started
    after = [made.field.to_current(np.asarray(n.centre_lps_mm)) for n in made.prior.nodules]
    rows = []
    for was, is_now in made.pairs:
        row: dict[str, Any] = {
            "pair": number,
            "largest_mm": largest_mm,
            "cpu_s": round(seconds, 1),
            "overlap": told.registration.overlap,
        }
        if was is not None:
            nodule = made.prior.nodules[was]
            mapped = told.registration.to_current(nodule.centre_lps_mm)
            row["registration_mm"] = math.dist(mapped, after[was])
            row["displaced_mm"] = math.dist(nodule.centre_lps_mm, after[was])
            row["texture"] = nodule.texture
        if is_now is None and was is not None:
            gone = [one.status for one in told.gone if one.prior.id == f"N{was + 1}"]
            row |= {"kind": "gone", "right": gone == [VANISHED], "told": gone}
        elif is_now is not None:
            finding = told.current[is_now]
            prior = finding.prior or {}
            if was is None:
                row |= {"kind": "new", "right": prior["status"] == "new", "told": prior["status"]}
            else:
                right = prior["status"] == "paired" and prior["nodule_id"] == f"N{was + 1}"
                row |= {"kind": "pair", "right": right, "told": prior["status"]}
                row |= {
                    "true": [true_size(made.prior, was), true_size(made.current, is_now)],
                    "told": [prior["size"], finding.size.to_json()],
                }
            if prior["place_lps_mm"]:
                sides = told.registration.prior.side(prior["place_lps_mm"])
                row["across"] = sides != told.registration.current.side(finding.centre_lps_mm)
        rows.append(row)
    rows.append({"pair": number, "kind": "subsets", "right": subsets(made, told, rng)})
    return rows


def subsets(made: FollowUp, told: Comparison, rng: np.random.Generator) -> list[bool]:
    """Return for nodules of CTs that hold 1 to 4 of them whether pairing finds the right one."""
    lungs = told.registration
    mapped = [lungs.to_current(place_of(one)) for one in told.prior]
    before = [
        Spot(place, size_mm(one), lungs.prior.side(place_of(one)))
        for place, one in zip(mapped, told.prior, strict=True)
    ]
    now = [
        Spot(place_of(one), size_mm(one), lungs.current.side(place_of(one))) for one in told.current
    ]
    known = [(was, is_now) for was, is_now in made.pairs if was is not None and is_now is not None]
    right = []
    for _ in range(SUBSETS):
        chosen = rng.choice(len(known), int(rng.integers(1, 5)), replace=False)
        truth = [known[int(n)] for n in chosen]
        order = rng.permutation(len(truth))
        found = pair([before[was] for was, _ in truth], [now[truth[n][1]] for n in order])
        right += [(n, int(np.flatnonzero(order == n)[0])) in found for n in range(len(truth))]
    return right


def collect(
    out: Path, run: Callable[[int], list[dict[str, Any]]], pairs: int, seconds: float
) -> list[dict[str, Any]]:
    """Run the pairs that a file lacks, for so many seconds at most, and return all rows."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "pairs.jsonl"
    done = {
        entry["number"]: entry["rows"]
        for entry in map(json.loads, path.read_text().splitlines() if path.is_file() else [])
    }
    started = time.monotonic()
    for number in range(pairs):
        if number in done or time.monotonic() - started > seconds:
            continue
        done[number] = run(number)
        with path.open("a") as file:
            file.write(json.dumps({"number": number, "rows": done[number]}) + "\n")
    print(f"{len(done)} of {pairs} pairs")
    return [row for number in sorted(done) for row in done[number]]


def fitted(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return for each size the share that REPEATABILITY holds."""
    found = {}
    for name in SIZES:
        scores = []
        for row in measured(rows):
            was, now = (Size.from_json(told) for told in row["told"])
            change = change_of(name, was, now)
            if change is None or change.ratio_interval_90 is None:
                continue
            half = math.log(change.ratio_interval_90[1] / change.ratio) / REPEATABILITY[name]
            truth = row["true"][1][name] / row["true"][0][name]
            scores.append(abs(math.log(change.ratio / truth)) / half)
        found[name] = round(float(conformal_quantile(np.array(scores), 0.9)), 3)
    return found


def measured(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == "pair" and row["right"]]


def cross_fitted(rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Return the shares that were fitted on the other half, by pair % 2."""
    return {half: fitted([row for row in rows if row["pair"] % 2 != half]) for half in (0, 1)}


def with_shares(name: str, row: dict[str, Any], shares: dict[int, dict[str, float]]) -> Any:
    """Return the change of a size with the interval of given shares; None without one."""
    change = change_of(name, *map(Size.from_json, row["told"]))
    if change is None or change.ratio_interval_90 is None:
        return None
    half = math.log(change.ratio_interval_90[1] / change.ratio) / REPEATABILITY[name]
    half *= shares[row["pair"] % 2][name]
    ends = change.ratio * math.exp(-half), change.ratio * math.exp(half)
    return replace(change, ratio_interval_90=ends)


def share(right: Sequence[bool]) -> str:
    """Return "n of m (p%, 95% interval low-high)" (Wilson)."""
    n, m = sum(right), len(right)
    if not m:
        return "0 of 0"
    z, p = 1.96, n / m
    middle = (p + z * z / (2 * m)) / (1 + z * z / m)
    half = z / (1 + z * z / m) * math.sqrt(p * (1 - p) / m + z * z / (4 * m * m))
    return f"{n} of {m} ({p:.1%}; {max(0, middle - half):.1%}-{min(1, middle + half):.1%})"


def figures(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what docs/follow-up.md tells, row by row."""
    pairs = [row for row in rows if row["kind"] == "pair"]
    paired, shares = measured(rows), cross_fitted(rows)
    few = [right for row in rows if row["kind"] == "subsets" for right in row["right"]]
    told = [
        (f"pairing right, {MOST_NODULES} nodules a CT", share([row["right"] for row in pairs])),
        ("pairing right, 1 to 4 of them", share(few)),
    ]
    large = [row["right"] for row in pairs if row["displaced_mm"] > 8]
    told.append(("pairing right, displaced by more than 8 mm", share(large)))
    told.append(("paired across sides", share([row["across"] for row in rows if "across" in row])))
    for kind in ("gone", "new"):
        told.append((f"{kind} told", share([row["right"] for row in rows if row["kind"] == kind])))
    errors = [row["registration_mm"] for row in rows if "registration_mm" in row]
    told.append(("registration error, median / 95% / largest mm", quantiles(errors)))
    moved = [row["displaced_mm"] for row in rows if "displaced_mm" in row]
    told.append(("displacement, median / 95% / largest mm", quantiles(moved)))
    for name in SIZES:
        inside, widths = [], []
        for row in paired:
            change = with_shares(name, row, shares)
            if change is None:
                continue
            low, high = change.ratio_interval_90
            truth = row["true"][1][name] / row["true"][0][name]
            inside.append(low <= truth <= high)
            widths.append(100 * (math.sqrt(high / low) - 1))
        told.append((f"90% interval of {name} covers", share(inside)))
        told.append((f"half width of it, +% median / 95% / largest ({name})", quantiles(widths)))
    for growth, name in ((1.0, "unchanged"), (0.8, "-20%"), (1.25, "+25%"), (1.6, "+60%")):
        told.append((f"{name} called growing", share(called(paired, growth, shares))))
    told.append(("+100% called growing", share(called(paired, 2.0, shares))))
    told.append(("+200% called growing", share(called(paired, 3.0, shares))))
    told.append(
        (
            "CPU s of a comparison, median / 95% / largest",
            quantiles([r["cpu_s"] for r in rows if "cpu_s" in r]),
        )
    )
    return told


def called(rows: Sequence[dict[str, Any]], growth: float, shares: Any) -> list[bool]:
    found = []
    for row in rows:
        ratio = row["true"][1]["volume_mm3"] / row["true"][0]["volume_mm3"]
        if abs(math.log(ratio / growth)) < 0.06:
            found.append(trend(with_shares("volume_mm3", row, shares)) == GROWING)
    return found


def quantiles(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return " / ".join(f"{value:.1f}" for value in np.percentile(values, [50, 95, 100]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/follow-up"))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many")
    given = parser.parse_args()
    model = Characterizer.load()
    rows = collect(given.out, lambda n: compare_pair(model, n), given.pairs, given.seconds)
    print(f"REPEATABILITY = {fitted(rows)}")
    for name, text in figures(rows):
        print(f"{name}: {text}")


if __name__ == "__main__":
    main()
