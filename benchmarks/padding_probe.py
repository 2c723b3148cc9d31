"""Measures whether the slices invented beyond a stack's ends give away the nodule's size.

    python benchmarks/padding_probe.py --stacks STACKS --cubes CUBES [--nodules 800] [--model DIR]

STACKS and CUBES are archives of `resmtnet prepare stacks` and `resmtnet prepare cubes`. It has
three parts:

1 Synthesised slices alone. Each stack is continued as for training (data/continuation.py), and a
  ridge regression and a forest predict the equivalent diameter from slices that were synthesised,
  never from a measured one; cross-validated by patient, against the training median.
    end       slices at fixed distances beyond the stack's two ends
    centre    slices at fixed heights above and below the nodule's centre, the nodule's own slices
              removed: only nodules that end nearer to the centre than those heights
    presence  no voxel at all, only which heights around the centre were synthesised: how much the
              mere place of the end tells. A real CT tells that too, by showing lung there
    measured  for comparison: the stack's own two end slices
2 True slices. Each cube, whose context is known, is cut to the slices that carry its mask and
  continued. The forest of `end`, trained on the stacks of other patients, sees either the
  synthesised slices or the true ones at the same places: what it knows of size only from the
  synthesised is an artefact, what it knows from both is anatomy. And a logistic regression, by
  patient, tells the two kinds of slices apart.
3 The model. Its diameters and probability on the whole cube and on the cut and continued one.

It showed, with 1,154 stacks and the model of version 0.1.0:

1 Slices at fixed distances from the ends say a little (forest: r .53 with the log diameter, error
  2.59 mm, constant 2.86), less than the two measured end slices (.71, 2.24) and far less than the
  mere place of the ends (.90, 1.26). At fixed heights around the centre: r .41.
2 What they say is mostly anatomy: the same forest has r .58 on synthesised slices of cubes and .49
  on the true ones, and means 7.6 and 7.5 mm. The two kinds are hardly told apart (AUC .60).
3 Cutting and continuing the cubes changes the regressed diameter by .08 mm on average (bias .01),
  the measured one by .36 mm (-.01), the probability by .013. Most of the heights that the heads
  look at lie inside larger nodules, so that for these the heads see little of the continuation.

A slice is described by mean and spread of HU in rings around the nodule, and by its coarse picture.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.patch import axial_affine, sample
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.continuation import continue_ends
from resmtnet.data.crops import BEYOND_MM

BEYOND_END_MM = (3.0, 6.0, 10.0)
"""Places of `end`: at least a slice spacing away, so that no measured slice is mixed in."""
FROM_CENTRE_MM = 12.0
"""Height of `centre`."""
PRESENCE_MM = np.arange(2.0, 14.1, 2.0)
PATCH_MM, RINGS, COARSE = 48, 16, 8
FOLDS = 5

Array = np.ndarray


class Continued:
    """A stack with what was synthesised at its ends."""

    def __init__(self, hu: Array, mask: Array, nodule: Nodule, bottom: int, seed: int) -> None:
        """Continue slices.

        Args:
            hu: [n, H, W], the slices that carry the nodule.
            mask: of the same shape.
            nodule: they belong to.
            bottom: slice of the nodule's crop that is the first of them.
            seed: of the continuation.
        """
        self.dz = nodule.spacing_kji_mm[0]
        generator = torch.Generator().manual_seed(seed)
        self.hu, _, self.below = continue_ends(
            hu, mask, nodule.spacing_kji_mm, BEYOND_MM, generator
        )
        self.count = len(hu)
        k, j, i = nodule.centre_kji
        self.centre_kji = (k - bottom + self.below, j, i)
        self.spacing_kji_mm = nodule.spacing_kji_mm

    def ends_mm(self) -> tuple[float, float]:
        """Heights above the centre of the first and the last measured slice."""
        first = (self.below - self.centre_kji[0]) * self.dz
        return first, first + (self.count - 1) * self.dz

    def beyond_ends_mm(self) -> list[float]:
        """Heights above the centre of the slices of `end`."""
        low, high = self.ends_mm()
        return [low - d for d in BEYOND_END_MM] + [high + d for d in BEYOND_END_MM]


def patches(
    hu: Array,
    spacing_kji_mm: Sequence[float],
    centre_kji: Sequence[float],
    heights: Sequence[float],
) -> Array:
    """Return axial slices [heights, P, P] of 1 mm at heights (mm) above the centre."""
    line = torch.arange(PATCH_MM) - (PATCH_MM - 1) / 2
    z, y, x = torch.meshgrid(torch.tensor(heights, dtype=torch.float32), line, line, indexing="ij")
    volume = torch.from_numpy(np.array(hu))
    points = torch.stack([x, y, z], -1)
    return sample(volume, axial_affine(spacing_kji_mm, centre_kji), points).numpy()


def describe(slices: Array) -> Array:
    """Return the features of a set of slices [n, P, P]; HU are clipped to [-1000, 400]."""
    slices = np.clip(slices, -1000, 400)
    y, x = np.indices((PATCH_MM, PATCH_MM)) - (PATCH_MM - 1) / 2
    ring = np.minimum((np.hypot(x, y) / (PATCH_MM / 2) * RINGS).astype(int), RINGS)
    weights = np.stack([(ring == r) / (ring == r).sum() for r in range(RINGS)]).reshape(RINGS, -1)
    flat = slices.reshape(len(slices), -1)
    mean = flat @ weights.T
    spread = np.sqrt(np.maximum((flat**2) @ weights.T - mean**2, 0))
    edge = PATCH_MM // COARSE
    coarse = slices.reshape(len(slices), COARSE, edge, COARSE, edge).mean((2, 4))
    rough = np.abs(np.diff(slices, axis=2)).reshape(len(slices), -1).mean(1)
    return np.concatenate([mean.ravel(), spread.ravel(), coarse.ravel(), rough])


REGRESSORS: dict[str, Callable[[], Any]] = {
    "ridge": lambda: make_pipeline(
        StandardScaler(), PCA(0.98, svd_solver="full"), RidgeCV(np.logspace(0, 5, 16))
    ),
    "forest": lambda: RandomForestRegressor(
        100, min_samples_leaf=5, max_features=0.1, random_state=0
    ),
}


def cross_validate(features: Array, diameter_mm: Array, patients: Array) -> dict[str, float]:
    """Return the error (mm) of each regressor and of the training median, by patient."""
    splitter = GroupKFold(FOLDS)
    constant = np.empty_like(diameter_mm)
    for train, test in splitter.split(features, groups=patients):
        constant[test] = np.median(diameter_mm[train])
    found = {"constant": float(np.abs(constant - diameter_mm).mean())}
    for name, make in REGRESSORS.items():
        model = make()
        log = cross_val_predict(model, features, np.log(diameter_mm), groups=patients, cv=splitter)
        found[name] = float(np.abs(np.exp(log) - diameter_mm).mean())
        found[f"{name} r"] = float(np.corrcoef(log, np.log(diameter_mm))[0, 1])
    return found


Row = tuple[Array, float, str]
"""Features, equivalent diameter (mm), patient."""


def stack_rows(archive: Archive, most: int) -> dict[str, list[Row]]:
    """Return the rows of part 1 by kind of slices."""
    usable = [n for n in archive.nodules if n.spacing_kji_mm[0] <= BEYOND_END_MM[0]]
    usable = usable[:: math.ceil(len(usable) / most)]
    rows: dict[str, list[Row]] = {}
    for n, nodule in enumerate(usable):
        told("stacks", n, len(usable))
        hu, mask = archive.voxels_hu(nodule), archive.mask(nodule)
        stack = Continued(hu, mask, nodule, 0, seed=n)
        low, high = stack.ends_mm()
        shapes = {"end": stack.beyond_ends_mm(), "measured": [low, high]}
        # a slice spacing away from the measured ones, with which it would be interpolated
        if max(-low, high) + stack.dz <= FROM_CENTRE_MM:
            shapes["centre"] = [-FROM_CENTRE_MM, FROM_CENTRE_MM]
        target = (nodule.equivalent_diameter_mm, nodule.patient_id)
        for name, heights in shapes.items():
            seen = patches(stack.hu, stack.spacing_kji_mm, stack.centre_kji, heights)
            rows.setdefault(name, []).append((describe(seen), *target))
        beyond = PRESENCE_MM[:, None] > np.array([high, -low])
        rows.setdefault("presence", []).append((beyond.ravel().astype(float), *target))
    return rows


def columns(rows: Sequence[Row]) -> tuple[Array, Array, Array]:
    features, diameter, patients = zip(*rows, strict=True)
    return np.stack(features), np.array(diameter), np.array(patients)


def cut(archive: Archive, nodule: Nodule, seed: int) -> Continued:
    """Cut a crop with full context to the slices that carry its mask, and continue it."""
    hu, mask = archive.voxels_hu(nodule), archive.mask(nodule)
    marked = np.flatnonzero(mask.any((1, 2)))
    part = slice(int(marked[0]), int(marked[-1]) + 1)
    return Continued(hu[part], mask[part], nodule, part.start, seed)


def probe_cubes(archive: Archive, training: Sequence[Row]) -> dict[str, Any]:
    """Return part 2: what a probe trained on synthesised slices says of cubes."""
    true, made = [], []
    for n, nodule in enumerate(archive.nodules):
        stack = cut(archive, nodule, seed=n)
        heights = stack.beyond_ends_mm()
        whole = archive.voxels_hu(nodule), nodule.spacing_kji_mm, nodule.centre_kji
        continued = stack.hu, stack.spacing_kji_mm, stack.centre_kji
        target = (nodule.equivalent_diameter_mm, nodule.patient_id)
        made.append((describe(patches(*continued, heights)), *target))
        true.append((describe(patches(*whole, heights)), *target))
    known = {nodule.patient_id for nodule in archive.nodules}
    features, diameter, _ = columns([row for row in training if row[2] not in known])
    forest = REGRESSORS["forest"]().fit(features, np.log(diameter))
    document: dict[str, Any] = {}
    for name, rows in (("synthesised", made), ("true", true)):
        seen, truth, _ = columns(rows)
        said = np.exp(forest.predict(seen))
        document[name] = {
            "nodules": len(rows),
            "constant": float(np.abs(np.median(diameter) - truth).mean()),
            "forest": float(np.abs(said - truth).mean()),
            "forest r": float(np.corrcoef(np.log(said), np.log(truth))[0, 1]),
            "mean said": float(said.mean()),
        }
    both = [columns(rows) for rows in (made, true)]
    judge = make_pipeline(StandardScaler(), PCA(20), LogisticRegression(C=0.1, max_iter=1000))
    labels = np.repeat([1, 0], len(made))
    score = cross_val_predict(
        judge,
        np.concatenate([part[0] for part in both]),
        labels,
        groups=np.concatenate([part[2] for part in both]),
        cv=GroupKFold(10),
        method="decision_function",
    )
    document["told apart, AUC"] = float(roc_auc_score(labels, score))
    return document


def probe_model(archive: Archive, model: Characterizer, seeds: int) -> dict[str, Any]:
    """Compare what the model says of whole cubes and of cut and continued ones."""
    truth, whole, continued = [], [], []
    for n, nodule in enumerate(archive.nodules):
        told("cubes", n, len(archive.nodules))
        truth.append(nodule.equivalent_diameter_mm)
        hu = archive.voxels_hu(nodule)
        whole.append(says(model, hu, nodule.spacing_kji_mm, nodule.centre_kji))
        answers = []
        for seed in range(seeds):
            stack = cut(archive, nodule, seed=1000 * seed + n)
            answers.append(says(model, stack.hu, stack.spacing_kji_mm, stack.centre_kji))
        continued.append(np.mean(answers, axis=0))
    true, full, less = np.array(truth), np.array(whole), np.array(continued)
    names = ("regressed diameter, mm", "measured diameter, mm", "probability malignant")
    document: dict[str, Any] = {}
    for column, name in enumerate(names):
        both = np.isfinite(full[:, column]) & np.isfinite(less[:, column])
        one, other = full[both, column], less[both, column]
        change = other - one
        row = {
            "nodules": int(both.sum()),
            "mean change": float(change.mean()),
            "mean absolute change": float(np.abs(change).mean()),
            "greatest absolute change": float(np.abs(change).max()),
        }
        if column < 2:
            row |= {
                "MAE full": float(np.abs(one - true[both]).mean()),
                "MAE continued": float(np.abs(other - true[both]).mean()),
                "bias full": float((one - true[both]).mean()),
                "bias continued": float((other - true[both]).mean()),
            }
        document[name] = row
    return document


def says(
    model: Characterizer, hu: Array, spacing_kji_mm: Sequence[float], centre_kji: Sequence[float]
) -> list[float]:
    """Return regressed diameter, measured diameter and probability at the centre of a crop."""
    x, y, z = (-k * mm for k, mm in zip(centre_kji[::-1], spacing_kji_mm[::-1], strict=True))
    ct = CTVolume.from_array(np.ascontiguousarray(hu), spacing_kji_mm, (x, y, z))
    origin = (0.0, 0.0, 0.0)
    (observation,) = model.inference.heads([model.inference.sampler(ct, origin)])
    (finding,) = model(ct, [origin])
    diameter = finding.size.equivalent_diameter_mm
    return [
        float(np.exp(observation.outputs["equivalent_diameter_mm"][0])),
        float("nan") if diameter is None else diameter,
        finding.probability_malignant,
    ]


def told(what: str, done: int, of: int) -> None:
    if done % 50 == 0:
        print(f"{what}: {done}/{of}", file=sys.stderr, flush=True)


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title}")
    for name, row in table.items():
        if isinstance(row, dict):
            cells = "  ".join(
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            )
            print(f"  {name:24s} {cells}")
        else:
            print(f"  {name:24s} {row:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stacks", type=Path, required=True, help="archive without context")
    parser.add_argument("--cubes", type=Path, required=True, help="archive with full context")
    parser.add_argument("--nodules", type=int, default=800, help="stacks to use, at most")
    parser.add_argument("--seeds", type=int, default=1, help="continuations of each cube, part 3")
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    cubes = Archive.open(given.cubes)
    rows = stack_rows(Archive.open(given.stacks), given.nodules)
    document = {
        "stacks": {
            name: {"nodules": len(part), **cross_validate(*columns(part))}
            for name, part in rows.items()
        },
        "cubes": probe_cubes(cubes, rows["end"]),
        "model": probe_model(cubes, Characterizer.load(given.model), given.seeds),
    }
    show(
        "1 diameter from slices of stacks, by patient: MAE, mm (r: of the logarithms)",
        document["stacks"],
    )
    show("2 diameter from slices beside the nodules of cubes: MAE, mm", document["cubes"])
    show("3 the model on whole cubes and on cut and continued ones", document["model"])
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
