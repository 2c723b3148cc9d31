"""Does a model tell nodules from vessels, bronchi, fissures and pleura, and by what?

    python benchmarks/nodule_or_not.py --points negative_points.csv --ct NAME=FILE [--ct ...]
        --cubes ARCHIVE --model DIR [--model NAME=DIR ...] [--limit 0] [--json FILE]

--model NAME=DIR gives the places of that CT a model that never saw any of them.

negative_points.csv is that of negative_points.py; the cubes are nodules with the lung around them.
Told is the share on the right side of one half, by kind of place and for the nodules, with nodules
and other places equally likely ("plain"), as likely as under a click ("clicked") and as among what
the search proposes ("candidate"), and the area under the ROC curve.

Each place is asked twice: as it is, and cut to a few slices that are continued as the stacks of
training are ("cut"; the nodule, or a disc at a place without one, is painted over beyond the cut).
A network that took synthesised slices for a sign of a nodule would change its mind: the last
columns are the AUC where only the nodules, or only the other places, are cut.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from froc import models_of
from one_network import characterizer
from resmtnet import Characterizer, CTVolume
from resmtnet.data.archive import Archive
from resmtnet.data.continuation import continue_ends
from resmtnet.data.upright import upright_crop
from resmtnet.evaluation.metrics import auc
from resmtnet.inference.presence import CANDIDATE_SHARE, CLICKED_SHARE
from resmtnet.network.uncertainty import logit
from resmtnet.types import Point

EDGE_MM = 64.0
BEYOND_MM = 14.0
HEIGHTS_MM = (4.0, 14.0)
"""Heights of what is left of a place without a nodule, drawn evenly."""
NODULE = "nodule"
HALF_OF_THE_READERS = 128


@dataclass(frozen=True, eq=False)
class Place:
    """A small CT around a point."""

    kind: str
    hu: NDArray[np.int16]
    spacing_kji_mm: tuple[float, float, float]
    centre_kji: tuple[float, float, float]
    painted: NDArray[np.uint8]
    """What the continuation paints over, 255 inside; the nodule itself where there is one."""
    image: str = ""
    """Name of the CT, which decides the model that is asked; "" for a cube."""

    def as_ct(self) -> CTVolume:
        """Return it as a CT whose origin is the point."""
        x, y, z = (
            -c * mm for c, mm in zip(self.centre_kji[::-1], self.spacing_kji_mm[::-1], strict=True)
        )
        return CTVolume.from_array(self.hu, self.spacing_kji_mm, (x, y, z))

    def cut(self, generator: np.random.Generator) -> Place:
        """Return the slices of the nodule, or some around the point, continued at both ends."""
        marked = np.flatnonzero(self.painted.any((1, 2)))
        middle = round(self.centre_kji[0])
        half = generator.uniform(*HEIGHTS_MM) / 2 / self.spacing_kji_mm[0]
        first, last = max(0, round(middle - half)), min(len(self.hu) - 1, round(middle + half))
        if self.kind == NODULE and len(marked):
            first, last = int(marked[0]), int(marked[-1])
        kept = slice(first, last + 1)
        seed = torch.Generator().manual_seed(int(generator.integers(2**31)))
        hu, painted, below = continue_ends(
            self.hu[kept], self.painted[kept], self.spacing_kji_mm, BEYOND_MM, seed
        )
        k, j, i = self.centre_kji
        return replace(self, hu=hu, painted=painted, centre_kji=(k - first + below, j, i))


def negative_places(points: Path, files: Sequence[str]) -> Iterator[Place]:
    """Yield the places of the CSV."""
    with points.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for text in files:
        name, _, path = text.partition("=")
        ct = CTVolume.open(Path(path))
        for row in (row for row in rows if row["image"] == name):
            at: Point = (float(row["x"]), float(row["y"]), float(row["z"]))
            crop = upright_crop(ct, at, EDGE_MM)
            hu, spacing = np.asarray(crop.hu), crop.spacing_kji_mm
            j, i = np.ogrid[: hu.shape[1], : hu.shape[2]]
            distance = np.hypot(j - crop.centre_kji[1], i - crop.centre_kji[2]) * spacing[1]
            disc = np.broadcast_to(distance <= 4.0, hu.shape)
            painted = (disc * 255).astype(np.uint8)
            yield Place(row["kind"], hu, spacing, crop.centre_kji, painted, name)


def nodule_places(cubes: Archive) -> Iterator[Place]:
    """Yield the nodules of an archive with full context."""
    for nodule in cubes.nodules:
        marked = (cubes.mask(nodule) >= HALF_OF_THE_READERS).astype(np.uint8) * 255
        hu = np.asarray(cubes.voxels_hu(nodule))
        yield Place(NODULE, hu, nodule.spacing_kji_mm, nodule.centre_kji, marked)


def clear_probability(model: Characterizer, place: Place) -> float:
    """Return the nodule probability where nodules and other places are equally likely."""
    presence = model.model.calibration.nodule
    if presence is None:
        raise SystemExit(f"model {model.info.version} does not tell nodules from other places")
    even = replace(presence, clicked_share=0.5)
    (said,) = model.inference.heads([model.inference.sampler(place.as_ct(), (0.0, 0.0, 0.0))])
    return even.probability(said.outputs, candidate=False)


def figures(kinds: Sequence[str], plain: Sequence[float], cut: Sequence[float]) -> dict[str, Any]:
    """Return shares on the right side by kind, and the AUC of each pairing.

    Args:
        kinds: of the places.
        plain: probability of each as it is.
        cut: of each where it was cut and continued.
    """
    kind, nodule = np.array(kinds), np.array([k == NODULE for k in kinds])
    asked = {"plain": np.array(plain), "cut": np.array(cut)}
    least = {"plain": 0.5, "cut": 0.5, "clicked": CLICKED_SHARE, "candidate": CANDIDATE_SHARE}
    odds = {name: logit(asked.get(name, asked["plain"])) + logit(p) for name, p in least.items()}
    right = {name: np.where(nodule, o >= 0, o < 0) for name, o in odds.items()}
    return {
        "right": {
            str(one): {
                "places": int((kind == one).sum()),
                **{name: float(values[kind == one].mean()) for name, values in right.items()},
            }
            for one in dict.fromkeys(kinds)
        },
        "auc": {
            f"nodules {a}, others {b}": auc(
                _ones_first(nodule), np.concatenate([asked[a][nodule], asked[b][~nodule]])
            )
            for a in asked
            for b in asked
        },
    }


def _ones_first(nodule: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.concatenate([np.ones(nodule.sum()), np.zeros((~nodule).sum())])


def main() -> None:
    """Ask the model for all places and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--ct", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--cubes", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, metavar="DIR|NAME=DIR")
    parser.add_argument("--limit", type=int, default=0, help="Places asked, by chance; 0: all.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    names = [text.partition("=")[0] for text in given.ct]
    folders = models_of(given.model, ["", *names])
    models = {folder: characterizer(folder) for folder in dict.fromkeys(folders.values())}
    others = list(negative_places(given.points, given.ct))
    if given.limit:
        others = [others[n] for n in generator.permutation(len(others))[: given.limit]]
    places = [*nodule_places(Archive.open(given.cubes)), *others]
    plain = [clear_probability(models[folders[place.image]], place) for place in places]
    cut = [clear_probability(models[folders[p.image]], p.cut(generator)) for p in places]
    document = figures([place.kind for place in places], plain, cut)
    print(json.dumps(document, indent=1))
    if given.json:
        used = {name or "cubes": models[folder].info.sha256 for name, folder in folders.items()}
        given.json.write_text(json.dumps({"models": used, **document}, indent=1) + "\n")


if __name__ == "__main__":
    main()
