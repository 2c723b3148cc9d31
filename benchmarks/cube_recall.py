"""Does the search propose, and the model show, the nodule of each cube of lung?

    python benchmarks/cube_recall.py --cubes ARCHIVE [--model DIR] [--apart PATIENT,...]
        [--json FILE]

A cube is a nodule with the lung around it, a few centimetres wide, so that fewer vessels compete
with the nodule than in a whole CT: told is whether the nodule is proposed at all, and whether it is
shown at the model's own threshold, not how it ranks. A place hits the nodule if it lies within its
radius of its centre. Nodules that fewer than three readers marked are told apart, and so are the
patients of --apart, for whom the model may have seen other places of the CT.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resmtnet import Characterizer
from resmtnet.characteristics import TEXTURE, texture_class_of
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.candidates import find_candidates
from resmtnet.inference.search import PROPOSED

BANDS_MM = (0.0, 6.0, 10.0, 15.0, 25.0, math.inf)
WELL_READ = 3


@dataclass(frozen=True)
class Searched:
    """What the search of one cube found."""

    nodule: Nodule
    diameter_mm: float
    proposed: bool
    shown: bool


def searched(model: Characterizer, cubes: Archive, nodule: Nodule) -> Searched:
    """Search one cube."""
    ct, centre = nodule_ct(cubes, nodule)
    diameter_mm = nodule.equivalent_diameter_mm
    places = [one.centre_lps_mm for one in find_candidates(ct, maximum=PROPOSED)]
    shown = [one.centre_lps_mm for one in model.find(ct, max_candidates=PROPOSED)]

    def hits(found: Sequence[tuple[float, float, float]]) -> bool:
        return any(math.dist(place, centre) <= diameter_mm / 2 for place in found)

    return Searched(nodule, diameter_mm, hits(places), hits(shown))


def recall(rows: Sequence[Searched], group_of: Callable[[Searched], str]) -> dict[str, Any]:
    """Return how many nodules of each group were proposed, and shown."""
    groups: dict[str, list[Searched]] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    return {
        name: {
            "nodules": len(of),
            "proposed": sum(row.proposed for row in of),
            "shown": sum(row.shown for row in of),
        }
        for name, of in sorted(groups.items())
    }


def band(row: Searched) -> str:
    """Return the size band of a nodule."""
    low = max(edge for edge in BANDS_MM if edge <= row.diameter_mm)
    return f"{low:04.1f} mm and more"


def texture(row: Searched) -> str:
    """Return the texture by the readers' mean rating."""
    given = row.nodule.given(TEXTURE.name)
    return texture_class_of(statistics.fmean(given)) if given else "not rated"


def readers(row: Searched) -> str:
    """Return whether at least three readers marked a nodule."""
    return "three readers or more" if len(row.nodule.malignancy) >= WELL_READ else "fewer readers"


def main() -> None:
    """Search all cubes and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cubes", type=Path, required=True, help="Archive with full context.")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--apart", type=lambda text: text.split(","), default=[])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    model = Characterizer.load(given.model)
    cubes = Archive.open(given.cubes)
    rows = [searched(model, cubes, nodule) for nodule in cubes.nodules]
    kept = [row for row in rows if row.nodule.patient_id not in given.apart]
    document = {
        "model": model.info.sha256,
        "all": recall(kept, lambda _: "all"),
        "by readers": recall(kept, readers),
        "by size": recall(kept, band),
        "by texture": recall(kept, texture),
        "apart": recall([row for row in rows if row not in kept], lambda row: row.nodule.id),
        "not shown": [
            (row.nodule.id, round(row.diameter_mm, 1), texture(row), row.proposed)
            for row in kept
            if not row.shown
        ],
    }
    print(json.dumps(document, indent=1))
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
