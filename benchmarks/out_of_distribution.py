"""How well the out-of-distribution score separates nodules from other places, kind by kind.

    python benchmarks/out_of_distribution.py CT --at X,Y,Z [--at ...] --cubes ARCHIVE
        [--stacks ARCHIVE --fold 0] [--count 24] [--picture FILE] [--model DIR] [--json FILE]

CT is a whole chest CT and --at every nodule that readers marked in it. In it, places of each kind
are found by rules (ct_places.py; look at them with --picture). Synthetic inputs are noise, constant
volumes, the nodules with their HU upside down or on the scale of an MR, and phantom nodules (they
may warn). Nodules are the full-context cubes, clicked at the centre and at one drawn voxel of the
readers' mask, and the stacks of one fold, whose missing surroundings are synthesised.

Per kind: AUROC of finding.uncertainty.out_of_distribution against the cubes (95% bootstrap
interval by patient of the nodules and by place; all places are of one patient), against the
clicks off the centre and the stacks, and the share that warns (score above 1). With --stacks, a
second table has other signals against the cubes; their distances are from the stacks' embeddings.

Not measured: scars, lymph nodes and fissures (see ct_places.py), and the LIDC readers' own
non-nodules of 3 mm or more, whose places stand in the XML files only. "unmarked candidate" comes
nearest: what the candidate search offers in a CT in which all readers marked every nodule.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ct_places import find_places
from made_inputs import no_nodules, phantom_nodule
from perturbations import Click, points_inside
from resmtnet import Characterizer, CTVolume
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.evaluation.metrics import auc
from resmtnet.findings import Finding
from resmtnet.types import Array, Point

SEED = 0
WARNS_ABOVE = 1.0
NEIGHBOURS, COMPONENTS = 10, 32
TEXTURES = ("solid", "part-solid", "non-solid")
CUBES, OFF_CENTRE, STACKS = "cubes", "cubes, off the centre", "stacks"


@dataclass(frozen=True, eq=False)
class Group:
    """Answers of one kind."""

    findings: list[Finding]
    patients: list[str]
    """Who or what each is drawn with in the bootstrap."""

    @property
    def scores(self) -> Array:
        """[N]"""
        return np.array([f.uncertainty.out_of_distribution for f in self.findings])

    @property
    def embeddings(self) -> Array:
        """[N, D]"""
        return np.array([np.ravel(f.embedding) for f in self.findings], float)  # type: ignore[arg-type]

    @property
    def without_mask(self) -> Array:
        """[N] 1 where no mask was found."""
        return np.array([f.mask is None for f in self.findings], float)


def answered(model: Characterizer, clicks: Sequence[Click], patients: Sequence[str]) -> Group:
    return Group([model(ct, [point])[0] for ct, point in clicks], list(patients))


def of_archive(model: Characterizer, archive: Archive, nodules: Sequence[Nodule]) -> Group:
    clicks = [nodule_ct(archive, nodule) for nodule in nodules]
    return answered(model, clicks, [nodule.patient_id for nodule in nodules])


def off_centre(model: Characterizer, archive: Archive) -> Group:
    """Return the answers for one drawn voxel of every nodule's mask."""
    generator = np.random.default_rng(SEED)
    clicks = []
    for nodule in archive.nodules:
        ct, _ = nodule_ct(archive, nodule)
        inside = archive.mask(nodule) > 127
        clicks += [(ct, point) for point in points_inside(inside, ct.geometry, 1, generator)]
    return answered(model, clicks, [nodule.patient_id for nodule in archive.nodules])


def compare(nodules: Group, others: Group) -> dict[str, float | None]:
    """Return the AUROC of the score with its interval."""
    truth, score, patients = joined(nodules, others)
    resamples = Resamples(patients, BootstrapConfig(resamples=1000, seed=SEED))
    return resamples.replicate(auc, truth, score).estimate(0.95).to_json()


def joined(nodules: Group, others: Group) -> tuple[Array, Array, list[str]]:
    truth = np.repeat([0.0, 1.0], [len(nodules.findings), len(others.findings)])
    scores = np.concatenate([nodules.scores, others.scores])
    return truth, scores, nodules.patients + others.patients


def other_signals(cubes: Group, reference: Array) -> dict[str, Callable[[Group], Array]]:
    """Return further signals by name, larger = less like a nodule.

    Args:
        cubes: nodules, for the scale of the combination.
        reference: [N, D] embeddings of other nodules.
    """
    mean = reference.mean(0)
    _, values, axes = np.linalg.svd(reference - mean, full_matrices=False)
    kept = axes[:COMPONENTS]
    deviation = values[:COMPONENTS] / np.sqrt(len(reference))

    def neighbours(group: Group) -> Array:
        gaps = [np.linalg.norm(reference - e, axis=1) for e in group.embeddings]
        return np.sort(np.array(gaps), 1)[:, NEIGHBOURS - 1]

    def low_rank(group: Group) -> Array:
        return np.asarray(np.linalg.norm((group.embeddings - mean) @ kept.T / deviation, axis=1))

    def residual(group: Group) -> Array:
        gap = group.embeddings - mean
        return np.asarray(np.linalg.norm(gap - gap @ kept.T @ kept, axis=1))

    spread = np.quantile(cubes.scores, 0.95) - np.median(cubes.scores)
    return {
        "no mask found": lambda group: group.without_mask,
        f"{NEIGHBOURS}th neighbour": neighbours,
        f"Mahalanobis, {COMPONENTS} components": low_rank,
        f"residual beyond {COMPONENTS}": residual,
        "score + no mask": lambda group: group.scores / spread + group.without_mask,
    }


def measure(nodules: dict[str, Group], others: dict[str, Group]) -> dict[str, Any]:
    """Return the figures of every kind."""
    found: dict[str, Any] = {"nodules": {}, "kinds": {}}
    for name, group in nodules.items():
        found["nodules"][name] = {"n": len(group.findings)} | warned(group)
    signals = other_signals(nodules[CUBES], nodules[STACKS].embeddings) if STACKS in nodules else {}
    for kind, group in others.items():
        row: dict[str, Any] = {"n": len(group.findings)} | warned(group)
        row["auroc"] = {name: compare(known, group) for name, known in nodules.items()}
        truth = np.repeat([0.0, 1.0], [len(nodules[CUBES].findings), len(group.findings)])
        row["signals"] = {
            name: auc(truth, np.concatenate([signal(nodules[CUBES]), signal(group)]))
            for name, signal in signals.items()
        }
        found["kinds"][kind] = row
    return found


def warned(group: Group) -> dict[str, float]:
    return {
        "warns": float(np.mean(group.scores > WARNS_ABOVE)),
        "median": float(np.median(group.scores)),
        "without_mask": float(group.without_mask.mean()),
    }


def tables(found: dict[str, Any]) -> str:
    names = list(found["nodules"])
    against = " | ".join(f"AUROC, {name}" for name in names)
    lines = [
        f"| | n | {against} | warns | median score | no mask |",
        "|---" * (5 + len(names)) + "|",
    ]
    for name, row in found["nodules"].items():
        lines.append(f"| nodules: {name} | {row['n']} {'| ' * len(names)}| {_shares(row)} |")
    for kind, row in found["kinds"].items():
        areas = " | ".join(_area(row["auroc"][name], with_interval=name == CUBES) for name in names)
        lines.append(f"| {kind} | {row['n']} | {areas} | {_shares(row)} |")
    signals = list(next(iter(found["kinds"].values()))["signals"])
    if not signals:
        return "\n".join(lines)
    lines += ["", "Other signals, AUROC against the cubes:", ""]
    lines += [f"| | {' | '.join(signals)} |", "|---" * (1 + len(signals)) + "|"]
    for kind, row in found["kinds"].items():
        areas = " | ".join(f"{row['signals'][name]:.2f}" for name in signals)
        lines.append(f"| {kind} | {areas} |")
    return "\n".join(lines)


def _shares(row: dict[str, Any]) -> str:
    return f"{100 * row['warns']:.0f}% | {row['median']:.2f} | {100 * row['without_mask']:.0f}%"


def _area(estimate: dict[str, float | None], with_interval: bool) -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if not with_interval or low is None or high is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def draw(path: Path, ct: CTVolume, places: dict[str, list[Point]], columns: int = 12) -> None:
    """Write a sheet with the first places of every kind: axial, 80 mm, a cross at the point."""
    from matplotlib.figure import Figure

    hu, grid = ct.array(), ct.geometry
    half = round(40 / grid.spacing_mm[0])
    figure = Figure((1.2 * columns, 1.35 * len(places)), layout="constrained")
    for axes, (kind, points) in zip(
        figure.subplots(len(places), columns, squeeze=False), places.items(), strict=True
    ):
        axes[0].set_title(kind, fontsize=8, loc="left")
        for one in axes:
            one.axis("off")
        for one, point in zip(axes, points, strict=False):
            i, j, k = np.round(grid.lps_to_ijk(point)).astype(int)
            one.imshow(hu[k], cmap="gray", vmin=-1000, vmax=400)
            one.set(xlim=(i - half, i + half), ylim=(j + half, j - half))
            one.plot(i, j, "+", color="red", ms=7, mew=0.6)
    figure.savefig(path, dpi=80)


def triple(text: str) -> Point:
    x, y, z = (float(part) for part in text.split(","))
    return x, y, z


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ct", type=Path, help="a whole chest CT: folder of a series, or a file")
    parser.add_argument("--at", type=triple, metavar="X,Y,Z", action="append", required=True)
    parser.add_argument("--cubes", type=Path, required=True, help="archive with full context")
    parser.add_argument("--stacks", type=Path, help="archive of stacks")
    parser.add_argument("--fold", type=int, default=0, help="of the stacks")
    parser.add_argument("--count", type=int, default=24, help="places of each kind")
    parser.add_argument("--picture", type=Path, help="draw the places to this file")
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU if there is one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    started = time.perf_counter()
    opened = CTVolume.open(given.ct)
    grid = opened.geometry
    ct = CTVolume.from_array(
        opened.array(), grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction, opened.image_id
    )
    places = find_places(ct, given.at, given.count, SEED)
    if given.picture:
        draw(given.picture, ct, places)
    model, archive = Characterizer.load(given.model, given.device), Archive.open(given.cubes)
    nodules = {
        CUBES: of_archive(model, archive, archive.nodules),
        OFF_CENTRE: off_centre(model, archive),
    }
    if given.stacks:
        stacks = Archive.open(given.stacks)
        chosen = [n for n in stacks.nodules if n.fold == given.fold and n.split == "train"]
        nodules[STACKS] = of_archive(model, stacks, chosen)
    inputs = {kind: [(ct, point) for point in points] for kind, points in places.items() if points}
    cubes = [nodule_ct(archive, nodule) for nodule in archive.nodules]
    inputs |= no_nodules(cubes, given.count, SEED)
    inputs["phantom nodules (may warn)"] = [
        phantom_nodule(seed, diameter_mm, TEXTURES[seed % 3])[0]
        for seed, diameter_mm in enumerate(np.linspace(5, 20, given.count).tolist())
    ]
    others = {
        kind: answered(model, clicks, [f"{kind} {n}" for n in range(len(clicks))])
        for kind, clicks in inputs.items()
    }
    found = measure(nodules, others)
    print(tables(found))
    found["places_lps_mm"] = places
    found["model"] = {"version": model.info.version, "sha256": model.info.sha256}
    found["seconds"] = round(time.perf_counter() - started, 1)
    print(f"\n{found['seconds']} s, model {model.info.version} {model.info.sha256[:12]}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
