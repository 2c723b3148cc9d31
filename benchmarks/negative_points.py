"""Writes points of whole CTs without a nodule: vessel, bronchus, fissure, pleura, candidates.

    python benchmarks/negative_points.py --ct NAME=FILE [--ct ...] --marks marks.csv --out FILE.csv
        [--count 60] [--candidates 100]

Nobody marks them by hand: the rules are those of ct_places.py and the one for fissures below.
"candidate" is what the search of the whole CT offers, at least 15 mm from all marks. Every point
is at least 15 mm from every mark of every reader, whatever it is (marks.csv: see froc.py), so that
all CTs must be fully read. The CSV (image, patient, kind, x, y, z in LPS mm, nodule_label 0, split)
is read by nodule_or_not.py and, to train on, by

    resmtnet prepare points --images DIR --points FILE.csv --out negatives-ct/
        --columns image=image,patient=patient,x=x,y=y,z=z,nodule_label=nodule_label,split=split
        --cut-copies 2
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from scipy import ndimage

from ct_anatomy import Anatomy, Mask
from ct_places import EDGE_MM, RULES, _drawn, _ridge
from froc import read_marks
from resmtnet import CTVolume
from resmtnet.inference.candidates import find_candidates
from resmtnet.types import Point

FROM_MARKS_MM = 15.0
KINDS = ("vessel", "bronchus", "pleura")
COLUMNS = ("image", "patient", "kind", "x", "y", "z", "nodule_label", "split")
MANY = 20
"""Times more points are drawn than asked for: some lie near a mark."""


def fissure(a: Anatomy) -> Mask:
    """Thin sheets: one strongly negative eigenvalue, two near 0; -880 to -550 HU, 8 mm deep."""
    low, middle, high = np.moveaxis(a.curvatures(1.5), -1, 0)
    sheet = (low < -15) & (np.abs(middle) < -0.4 * low) & (np.abs(high) < -0.4 * low)
    faint = (a.hu > -880) & (a.hu < -550) & (a.greatest(3) < -450)
    wide = ndimage.uniform_filter((sheet & faint).astype(np.float32), (5, 9, 9)) > 0.06
    return np.asarray(sheet & faint & wide & (a.in_lung_mm >= 8) & _ridge(-low))


def places(ct: CTVolume, marks_lps_mm: list[Point], count: int) -> dict[str, list[Point]]:
    """Return up to `count` points of every kind, LPS mm."""
    anatomy = Anatomy.of(ct)
    inner = np.zeros(anatomy.hu.shape, bool)
    edges = [round(EDGE_MM / spacing) for spacing in anatomy.geometry.spacing_mm[::-1]]
    edges[0] = min(edges[0], round(12 / anatomy.geometry.spacing_mm[2]))
    inner[tuple(slice(n, -n) for n in edges)] = True
    rules = {**{kind: RULES[kind] for kind in KINDS}, "fissure": fissure}
    found = {}
    for n, (kind, rule) in enumerate(rules.items()):
        allowed = np.argwhere(rule(anatomy) & inner)
        rng = np.random.default_rng([0, n])
        drawn = _drawn(anatomy.geometry, allowed, MANY * count, rng)
        wanted = 2 * count if kind == "fissure" else count  # thick slices show none
        found[kind] = far_from(drawn, marks_lps_mm)[:wanted]
    return found


def far_from(points: list[Point], marks_lps_mm: list[Point]) -> list[Point]:
    """Return the points that lie 15 mm or more from all marks."""
    return [
        point
        for point in points
        if all(math.dist(point, mark) >= FROM_MARKS_MM for mark in marks_lps_mm)
    ]


def main() -> None:
    """Write the points of every CT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ct", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=100)
    given = parser.parse_args()
    marks = read_marks(given.marks)
    rows = []
    for text in given.ct:
        name, _, path = text.partition("=")
        ct = CTVolume.open(Path(path))
        centres = [mark.centre_lps_mm for mark in marks[name]]
        found = places(ct, centres, given.count)
        offered = [c.centre_lps_mm for c in find_candidates(ct, maximum=2 * given.candidates)]
        found["candidate"] = far_from(offered, centres)[: given.candidates]
        for kind, points in found.items():
            print(name, kind, len(points))
            rows += [
                (name, name, kind, *(round(v, 2) for v in point), 0, "train")
                for point in points
                if ct.geometry.contains(point)
            ]
    with given.out.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
